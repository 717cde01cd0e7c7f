"""Ask the model: demonstrations, prompts, models, the engine, and the views a trace consists of."""
