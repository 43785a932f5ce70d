"""A real JupyterLab with a real kernel, driven by Chromium."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import nbformat
import psutil
import pytest
from pictures import write_pictures

REPO = Path(__file__).parents[2]
QUIET = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
}

OPEN = """path => {
    window.jupyterapp.shell.expandLeft();  // as it is at the start
    window.jupyterapp.commands.execute('docmanager:open', {path});
}"""
CLOSE = """async path => {
    for (const it of [...window.jupyterapp.shell.widgets('main')].filter(it => it.context?.path === path)) {
        await it.sessionContext.shutdown();
        it.context.model.dirty = false;
        it.close();
    }
}"""
IDLE = "() => window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture
def axe():
    found = pytest.importorskip(
        "axe_playwright_python.sync_playwright",
        reason="axe-playwright-python is not installed; pip install -e .[dev]",
    )
    return found.Axe()


@pytest.fixture(scope="session")
def lab(tmp_path_factory, chrome):
    root = tmp_path_factory.mktemp("lab")
    work, config = root / "work", root / "config"
    work.mkdir()
    (config / "labconfig").mkdir(parents=True)
    (config / "labconfig" / "default_setting_overrides.json").write_text(json.dumps(QUIET))
    env = dict(os.environ, JUPYTER_CONFIG_DIR=str(config), JUPYTER_DATA_DIR=str(root / "data"),
               JUPYTER_RUNTIME_DIR=str(root / "run"), IPYTHONDIR=str(root / "ipython"))  # fmt: skip
    port = free_port()
    command = [sys.executable, "-m", "jupyterlab", "--allow-root", "--no-browser", "--ServerApp.ip=127.0.0.1",
               f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--IdentityProvider.token=",
               "--ServerApp.password=", "--ServerApp.disable_check_xsrf=True", f"--ServerApp.root_dir={work}",
               "--LabApp.expose_app_in_browser=True", "--JupyterNotebookApp.expose_app_in_browser=True"]  # fmt: skip
    with open(root / "lab.log", "w") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    for _ in range(240):
        try:
            urllib.request.urlopen(url + "/api/status", timeout=1)
            break
        except OSError:
            assert server.poll() is None, (root / "lab.log").read_text()
            time.sleep(0.25)
    yield url, work
    started = psutil.Process(server.pid).children(recursive=True)
    server.terminate()
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        server.kill()
    for kernel in started:  # what a server that was killed leaves behind, as Windows always does
        with suppress(psutil.NoSuchProcess):
            kernel.kill()


class Notebook:
    "A notebook open in JupyterLab, or in Notebook 7"

    def __init__(self, page, url: str, name: str, app: str):
        self.page, self.url, self.name, self.app = page, url, name, app
        self.received: list[int] = []  # bytes of each message from the server

    def open(self) -> "Notebook":
        self.page.on("websocket", self._listen)
        if self.app == "lab":
            self.page.evaluate(OPEN, self.name)
        else:
            self.page.goto(f"{self.url}/{self.app}/{self.name}?reset")
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60000)
        self.page.wait_for_function(IDLE, timeout=60000)
        return self

    def _listen(self, socket) -> None:
        socket.on("framereceived", lambda data: self.received.append(len(data)))

    def close(self) -> None:
        "The kernel ends, and what was not saved is thrown away, whatever a test that failed has left open."
        self.page.remove_listener("websocket", self._listen)
        if self.app != "lab":
            self.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
            return self.page.close()
        while self.page.locator(".jp-Dialog").count():
            self.page.keyboard.press("Escape")
        self.page.evaluate(CLOSE, self.name)

    def command(self, name: str) -> None:
        # Braces: the result is not awaited, since some commands end only with the kernel's work.
        self.page.evaluate("c=>{window.jupyterapp.commands.execute(c)}", name)

    def theme(self, name: str, is_light: str) -> None:
        self.page.evaluate(
            "name => { window.jupyterapp.commands.execute('apputils:change-theme', {theme: name}) }", name
        )
        self.page.wait_for_function("is => document.body.dataset.jpThemeLight === is", arg=is_light)

    def n_cells(self) -> int:
        return self.page.evaluate("window.jupyterapp.shell.currentWidget.content.widgets.length")

    def python(self, code: str) -> str:
        "What `code` prints in the notebook's kernel."
        return self.page.evaluate(
            """async code => {
                const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
                let out = '';
                const future = kernel.requestExecute({code, store_history: false});
                future.onIOPub = m => {
                    if (m.header.msg_type === 'stream') out += m.content.text;
                    if (m.header.msg_type === 'error') out += 'ERROR ' + m.content.evalue;
                };
                await future.done;
                return out.trim();
            }""",
            code,
        )

    def wait(self, expression: str, value: str = "True", seconds: float = 10) -> None:
        "Until `expression` is `value` in the kernel: the grid shows a mark before the kernel has heard of it."
        end = time.monotonic() + seconds
        while (now := self.python(f"print({expression})")) != value:
            assert time.monotonic() < end, f"{expression} is {now} and not {value} after {seconds} s"
            time.sleep(0.05)


@pytest.fixture(scope="session")
def window(lab, chrome):
    "A JupyterLab without a notebook: to load it takes longer than most tests."
    page = chrome.new_page()
    page.goto(f"{lab[0]}/lab?reset")
    page.wait_for_function("() => window.jupyterapp?.shell?.layoutModified", timeout=60000)
    page.evaluate("() => window.jupyterapp.restored")
    yield page
    page.close()


def _opener(lab, chrome, request):
    "Open cells (or a notebook file) in JupyterLab; afterwards its kernel is shut down and no page error is left."
    url, work = lab
    opened, errors = [], []

    def failed(error):
        if "/static/notebook/" not in (error.stack or ""):
            errors.append(str(error))

    def opener(
        name: str, cells: list[str] | None = None, source: Path | None = None, app: str = "lab"
    ) -> Notebook:
        nb = nbformat.read(source, 4) if source else nbformat.v4.new_notebook()
        if cells:
            nb.cells = [nbformat.v4.new_code_cell(code) for code in cells]
        nb.metadata.kernelspec = dict(name="python3", display_name="Python 3", language="python")
        nbformat.write(nb, work / name)
        page = request.getfixturevalue("window") if app == "lab" else chrome.new_page()
        page.set_viewport_size(dict(width=1300, height=1000))
        page.on("pageerror", failed)
        opened.append(Notebook(page, url, name, app))
        return opened[-1].open()

    yield opener
    for notebook in opened:
        notebook.close()
        notebook.page.remove_listener("pageerror", failed)
    assert errors == []


open_notebook = pytest.fixture(_opener)
open_for_module = pytest.fixture(scope="module")(_opener)


@pytest.fixture
def review_of(lab):
    "A folder of so many pairs of equal pictures, and a cell that shows them; the pairs are items 0 and 1, 2 and 3, …"

    def make(name: str, n_groups: int, **options) -> tuple[Path, str]:
        names = [f"cat/{k:03}{copy}.jpg" for k in range(n_groups) for copy in "ab"]
        write_pictures(lab[1] / name, names, [k // 2 for k in range(len(names))])
        given = "".join(f", {key}={value!r}" for key, value in options.items())
        return (
            lab[1] / name,
            f"""from imgclean import ImageCleaner, Items  # not from imgclean.all, which waits for torch
ds = Items.from_folder({name!r})
cleaner = ImageCleaner(ds, [(k, k + 1) for k in range(0, len(ds), 2)]{given})
cleaner""",
        )

    return make
