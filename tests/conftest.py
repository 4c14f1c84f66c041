"""Strict settings for every test: shapes and types of all calls are checked, and nothing is promoted in silence."""

import atexit
import gc
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import is_hypothesis_test, settings

# Processes that tests start compile the same programs.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = cache = tempfile.mkdtemp(prefix="metarule-tests-")
    atexit.register(shutil.rmtree, cache, ignore_errors=True)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.05"

# Tracing makes many lasting objects. Collecting garbage as often as Python does would take a tenth of the time.
gc.set_threshold(100_000, 20, 100)

# Tests spend their time on compiling small programs, not on running them.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

# LLVM optimises kernels always. Their own tests ask for them, and so do those of what users type.
if os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1":
    os.environ.setdefault("METARULE_KERNELS", "off")

# XLA compiles four times as fast without its newer emitters and without parallel code generation. An unknown flag ends
# the process, so a subprocess tries the flags.
if "XLA_FLAGS" not in os.environ:
    flags = {"XLA_FLAGS": "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"}
    attempt = [sys.executable, "-c", "from jaxlib.xla_client import CompileOptions; CompileOptions()"]
    if subprocess.run(attempt, env=os.environ | flags, capture_output=True).returncode == 0:
        os.environ |= flags

# Workers share the cores.
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "1")

# The slowest files start first, so that both workers end at about the same time. CI installs a browser meanwhile.
LONGEST = (
    "test_readme.py",
    "test_faults.py",
    "test_configs.py",
    "test_cells.py",
    "test_train.py",
    "test_devices.py",
    "test_training.py",
    "test_probes.py",
    "test_startup.py",
)


# Together they use every dependency: `-m smoke` checks versions of the dependencies.
SMOKE = {
    "test_directory.py",
    "test_checkpoints.py",
    "test_cluster.py",
    "test_cpu.py",
    "test_schema.py",
    "test_evolve.py",
    "test_gradient.py",
    "test_locks.py",
    "test_nwb.py",
    "test_polynomial.py",
    "test_population.py",
    "test_runs.py",
    "test_scans.py",
    "test_statistics.py",
    "test_tables.py",
    "test_tabular.py",
    "test_tensorboard.py",
}


# Gradients and contracts: `-m numerics` tests them under other settings of XLA and JAX.
NUMERICS = {
    "circuits/test_contract.py",
    "estimators/test_contract.py",
    "estimators/test_inversion.py",
    "lifetime/test_learner.py",
    "rules/test_polynomial.py",
}


# Tests of bytes, overflow, float32 literals or drawn numbers of float32, skipped under JAX_ENABLE_X64=1.
FLOAT32 = {
    "test_a_weight_that_is_clipped_after_growing_and_leaves_its_bound_is_noticed",
    "test_an_accelerator_is_offered_a_plain_scan_first",
    "test_each_scan_stores_less_than_the_one_before",
    "test_segments_divide_the_lifetime_near_its_root",
    "test_the_best_is_chosen_on_the_same_lifetimes",
    "test_the_first_method_that_fits_is_chosen_and_named",
    "test_theta_shrinks_where_no_lifetime_is_finite",
    "test_weights_without_a_rule_do_not_change",
}


# Property tests try the same few inputs each time, and with `-m long` many others.
settings.register_profile("short", deadline=None, derandomize=True, max_examples=50)
settings.register_profile("long", deadline=None, max_examples=10_000)


@pytest.fixture(autouse=True)
def figures_without_content(request, monkeypatch):
    """Drawing takes longer than small runs; only tests marked `drawn`, or of figures, look at what is drawn."""
    from metarule.runs.figures import canvas

    def blank(file, draw, formats):
        file.parent.mkdir(exist_ok=True)
        for name in formats:
            file.with_suffix(f".{name}").write_bytes(b"a figure")

    def svg(self, *args, **kwargs):
        """No figure."""
        return ""

    if not request.node.get_closest_marker("drawn") and request.node.path.parent.name != "figures":
        monkeypatch.setattr(canvas, "_attempt", blank)
        monkeypatch.setattr(canvas.Picture, "svg", svg)


def pytest_configure(config):
    settings.load_profile("long" if "long" in config.option.markexpr else "short")
    # The process that hands out tests to workers needs none of what it would import.
    if not config.option.numprocesses or hasattr(config, "workerinput"):
        import strict  # noqa: F401


def pytest_collection_modifyitems(config, items):
    import jax

    if "long" in config.option.markexpr:
        for item in items:
            if is_hypothesis_test(getattr(item, "obj", None)):
                item.add_marker("long")
    else:
        long = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]
    for item in items:
        if item.path.name in SMOKE:
            item.add_marker("smoke")
        if item.path.relative_to(config.rootpath / "tests").as_posix() in NUMERICS:
            item.add_marker("numerics")
        if jax.config.jax_enable_x64 and getattr(item, "originalname", None) in FLOAT32:
            item.add_marker(pytest.mark.skip(reason="a test of float32"))
    last = len(LONGEST)
    places = {name: place for place, name in enumerate(LONGEST)} | {"test_browser.py": last + 1}
    items.sort(key=lambda item: places.get(item.path.name, last))


# A process may hold about 65,000 memory mappings on Linux, and every compiled program takes many.
MANY_MAPPINGS = 20_000


@pytest.fixture
def with_kernels():
    """Loops are compiled where that is faster, as for users."""
    from metarule.kernels import kernels

    with kernels("auto"):
        yield


@pytest.fixture(autouse=True, scope="module")
def room_for_programs():
    yield
    mappings = Path("/proc/self/maps")
    if mappings.exists() and len(mappings.read_text().splitlines()) > MANY_MAPPINGS:
        import jax

        jax.clear_caches()


# Optax relies on implicit promotion; the numerics of metarule do not.
STRICT = {"rules", "circuits", "tasks", "estimators", "lifetime"}


@pytest.fixture(autouse=True)
def strict_promotion(request):
    import jax

    path = request.path.relative_to(request.config.rootpath / "tests")
    with jax.numpy_dtype_promotion("strict" if path.parts[0] in STRICT else "standard"):
        yield


@pytest.fixture
def float64():
    import jax

    with jax.enable_x64(True):
        yield
