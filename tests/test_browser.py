"""The pages in a real browser: no error, no broken image, nothing that scrolls sideways on a phone but tables."""

import shutil

import pytest
from selenium import webdriver

from mlutils import paths

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
PAGES = [*sorted(paths.DOCS.glob("*.html")), *sorted((paths.RESULTS / "smoke").glob("*.html"))]
SWITCHES = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium with chromedriver on this machine")


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for switch in SWITCHES.split():
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def show(browser, page, width):
    """Opens a page in a window of some width, all images loaded."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.as_uri())
    browser.execute_async_script(
        "const done = arguments[0]; const images = [...document.images];"
        "images.forEach((image) => { image.loading = 'eager'; });"
        "Promise.allSettled(images.map((image) => image.decode())).then(() => done());"
    )


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_a_page_is_whole(browser, page, width):
    show(browser, page, width)
    assert browser.get_log("browser") == []
    broken = "return [...document.images].filter((image) => !image.naturalWidth).map((image) => image.alt)"
    assert browser.execute_script(broken) == []
    wide = "const page = document.documentElement; return page.scrollWidth - page.clientWidth"
    assert browser.execute_script(wide) <= 0


def test_the_index_of_runs_sorts(browser):
    show(browser, paths.DOCS / "runs.html", 1280)
    column = "return [...document.querySelectorAll('table.sorts tbody tr')].map((row) => row.cells[3].textContent)"
    click = "document.querySelectorAll('table.sorts th button')[3].click()"
    for ascending in (True, False):
        browser.execute_script(click)
        seconds = [float(text) for text in browser.execute_script(column)]
        assert seconds == sorted(seconds, reverse=not ascending) and len(set(seconds)) > 5
