"""Whatever happens to a save, the run folder holds a checkpoint from which the run ends as it should."""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gcsam_med.cli import run as command
from gcsam_med.errors import CheckpointError
from gcsam_med.training import steps as steps_module
from gcsam_med.training.checkpoint import INDEX, load_checkpoint, save_checkpoint
from tests.reliability.kills import Trial, differing, finish, launch, wait, whole

RUN = Trial("gcsam", 0.9)


def sudden(folder: Path, acknowledged: Path, megabytes: float) -> int:
    """Fork a process that saves one checkpoint after the other and says which are done."""
    pid = os.fork()
    if pid:
        return pid
    try:
        state = torch.arange(int(megabytes * 2**18), dtype=torch.float32)
        for step in range(1, 10**6):
            save_checkpoint(folder, step, {"step": step, "weights": state + step})
            acknowledged.write_text(str(step))
    finally:
        os._exit(1)


def test_fifty_kills_during_the_save_lose_nothing(tmp_path: Path) -> None:
    """Oracle: what the killed process had said was saved. Its state is that of its step, whole."""
    rng, found = random.Random(0), []
    torch.set_num_threads(1)
    for number in range(50):
        folder, acknowledged = tmp_path / f"{number}", tmp_path / f"{number}.ok"
        pid = sudden(folder, acknowledged, 2.0)
        while not acknowledged.is_file():
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.04))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        kept = load_checkpoint(folder)
        assert kept is not None
        # An empty file is the acknowledgement cut off, not the checkpoint.
        assert kept.step >= int(acknowledged.read_text() or 1)
        expected = torch.arange(2**19, dtype=torch.float32) + kept.step
        assert torch.equal(kept.state["weights"], expected)
        found += [path.name for path in folder.iterdir() if path.suffix == ".tmp"]
        save_checkpoint(folder, kept.step + 1, {"step": 0})
        assert len(list(folder.iterdir())) == 3  # the next save removes what the kill left
    assert found, "no kill came while a file was being written, so this showed nothing"


# --- The disk says no


def at_step(step: int, act: Callable[[], object]) -> Callable[[], None]:
    """In the forked process: do something before a step."""

    def tamper() -> None:
        original, count = steps_module.training_step, [0]

        def counted(*args: object, **rest: object) -> object:
            count[0] += 1
            if count[0] == step:
                act()
            return original(*args, **rest)  # type: ignore[arg-type]

        steps_module.training_step = counted  # type: ignore[assignment]

    return tamper


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A run folder that is a file system of its own of 1 MiB."""
    folder = tmp_path / "run"
    folder.mkdir()
    try:
        mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder))
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", "-R", str(folder)], check=True)


def refused(root: Path, folder: Path, tamper: Callable[[], None]) -> tuple[int, str]:
    """Start the run through the command line in a process of its own; its exit code and what it said."""
    config = RUN.config(root)
    file = folder.parent / "config.yaml"
    from gcsam_med.config import dump_config

    file.write_text(dump_config(config))

    def through_the_command_line() -> None:
        tamper()
        os._exit(command(["train", "--config", str(file), "--output", str(folder), "-q"]))

    status = wait(launch(config, folder, through_the_command_line))
    return os.waitstatus_to_exitcode(status), folder.with_suffix(".err").read_text()


def assert_unharmed(root: Path, folder: Path) -> None:
    """The checkpoint is there, no temporary file is, and the run ends like one that was never refused."""
    assert load_checkpoint(folder / "checkpoints") is not None
    assert list(folder.rglob("*.tmp")) == []
    finish(RUN.config(root), folder)
    assert differing(whole(root, RUN.optimizer, RUN.ema)[0], folder) == []


def test_a_full_disk(root: Path, small_disk: Path) -> None:
    """Oracle: the run on a disk with room."""
    filler = small_disk / "filler"

    def fill() -> None:
        filler.write_bytes(bytes(shutil.disk_usage(small_disk).free))

    code, said = refused(root, small_disk, at_step(9, fill))
    assert code == 3, said
    assert "No space left" in said
    assert "Free disk space" in said
    filler.unlink()
    assert_unharmed(root, small_disk)


@pytest.mark.parametrize("kilobytes", [4, 20, 40, 60, 80, 100, 130])
def test_a_disk_that_is_full_from_the_start_or_soon(kilobytes: int, root: Path, small_disk: Path) -> None:
    """Whichever write is the one that fails, the advice is there and the run can go on or start anew."""
    mount("-o", f"remount,size={kilobytes}k", str(small_disk))
    code, said = refused(root, small_disk, lambda: None)
    assert code in (0, 3), said
    assert "Traceback" not in said
    mount("-o", "remount,size=1m", str(small_disk))
    assert list(small_disk.rglob("*.tmp")) == []
    finish(RUN.config(root), small_disk)
    assert differing(whole(root, RUN.optimizer, RUN.ema)[0], small_disk) == []


def test_a_disk_that_turns_read_only(root: Path, small_disk: Path) -> None:
    """Oracle: the run on a disk that stays writable."""
    checkpoints = str(small_disk / "checkpoints")

    def read_only() -> None:
        mount("--bind", checkpoints, checkpoints)
        mount("-o", "remount,bind,ro", checkpoints)

    code, said = refused(root, small_disk, at_step(9, read_only))
    assert code == 3, said
    assert "Read-only file system" in said
    subprocess.run(["umount", checkpoints], check=True)
    assert_unharmed(root, small_disk)


def test_a_folder_that_may_not_be_written(root: Path) -> None:
    """Another user's process, since root may write everywhere."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    base = Path(mkdtemp(prefix="gcsam-med-tests-"))
    try:
        shutil.copytree(root / "prepared", base / "data" / "prepared")
        subprocess.run(["chmod", "-R", "a+rwX", str(base)], check=True)
        folder = base / "run"

        def become_nobody() -> None:
            os.setgid(65534)
            os.setuid(65534)
            at_step(9, lambda: (folder / "checkpoints").chmod(0o555))()

        code, said = refused(base / "data", folder, become_nobody)
        assert code == 3, said
        assert "Permission denied" in said
        (folder / "checkpoints").chmod(0o777)
        assert_unharmed(base / "data", folder)
    finally:
        shutil.rmtree(base)


def test_a_limit_of_file_sizes_as_a_quota_sets_it(root: Path, tmp_path: Path) -> None:
    """The kernel cuts the write off in the middle, as a quota does."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    code, said = refused(root, tmp_path / "run", at_step(9, limit))
    assert code == 3, said
    assert "File too large" in said
    assert_unharmed(root, tmp_path / "run")


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.EIO, errno.ENOSPC])
def test_a_disk_that_refuses_at_the_sync(number: int, root: Path, tmp_path: Path) -> None:
    """Network drives take the write and say at the sync that there was no room for it."""

    def late() -> None:
        def refuse(descriptor: int) -> None:
            raise OSError(number, os.strerror(number))

        os.fsync = refuse

    code, said = refused(root, tmp_path / "run", at_step(9, late))
    assert code == 3, said
    assert os.strerror(number) in said
    assert_unharmed(root, tmp_path / "run")


# --- The file is not what was written


@given(data=st.data())
def test_a_damaged_checkpoint_is_passed_over(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Oracle: the state of the one before. Any flipped bit, any cut, any stretch of zeros is found."""
    folder = tmp_path_factory.mktemp("c")
    for step in (1, 2):
        save_checkpoint(folder, step, {"weights": torch.full((50,), float(step))})
    path = folder / "step-00000002.pt"
    whole_file = bytearray(path.read_bytes())
    kind = data.draw(st.sampled_from(["bit", "cut", "zeros", "gone"]))
    at = data.draw(st.integers(0, len(whole_file) - 1))
    if kind == "bit":
        whole_file[at] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "cut":
        del whole_file[at:]
    elif kind == "zeros":
        whole_file[at:] = bytes(len(whole_file) - at)
    if kind == "gone":
        path.unlink()
    elif bytes(whole_file) == path.read_bytes():
        return
    else:
        path.write_bytes(whole_file)
    kept = load_checkpoint(folder)
    assert kept is not None
    assert kept.step == 1
    assert torch.equal(kept.state["weights"], torch.ones(50))
    assert "step-00000002.pt" in kept.skipped[0]


@pytest.mark.parametrize("damage", ["{", "[{}]", "[1]", "null", "[" * 100_000, "\0", None])
def test_a_damaged_index_costs_nothing(damage: str | None, tmp_path: Path) -> None:
    """Oracle: the newest file whose own checksums hold."""
    for step in (1, 2):
        save_checkpoint(tmp_path, step, {"weights": torch.full((50,), float(step))})
    if damage is None:
        (tmp_path / INDEX).unlink()
    else:
        (tmp_path / INDEX).write_text(damage)
    kept = load_checkpoint(tmp_path)
    assert kept is not None
    assert kept.step == 2
    assert INDEX in kept.skipped[0]
    newest = tmp_path / "step-00000002.pt"
    content = bytearray(newest.read_bytes())
    content[content.index(torch.full((50,), 2.0).numpy().tobytes())] ^= 1
    newest.write_bytes(content)
    before = load_checkpoint(tmp_path)
    assert before is not None
    assert before.step == 1


def test_no_checkpoint_left_is_said(tmp_path: Path) -> None:
    """Exit code 4, and which file has what fault."""
    save_checkpoint(tmp_path, 1, {"step": 1})
    (tmp_path / INDEX).write_text("{")
    (tmp_path / "step-00000001.pt").write_bytes(b"half")
    with pytest.raises(CheckpointError, match=r"index\.json is damaged; step-00000001\.pt is damaged"):
        load_checkpoint(tmp_path)
