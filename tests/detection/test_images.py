"""Reading and letterboxing: every kind of picture, whole or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from yoloproof.detection.coco import yolo_set
from yoloproof.detection.images import find_images, read_image
from yoloproof.detection.letterbox import boxes_to_image, letterbox, letterboxed
from yoloproof.errors import YoloproofError


@pytest.fixture
def pixels() -> NDArray[np.uint8]:
    """20 x 30, left half red, right half blue, a white corner above left."""
    array = np.zeros((20, 30, 3), np.uint8)
    array[:, :15, 0] = array[:, 15:, 2] = 255
    array[:5, :5] = 255
    return array


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int, pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    upright = {
        1: pixels, 2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 4: pixels[::-1], 5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, -1), 7: pixels[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(pixels, 1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), upright)


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK"])
def test_modes_become_rgb(mode: str, pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.fromarray(pixels).convert(mode).save(path, quality=95)
    image = read_image(path)
    assert image.shape == (20, 30, 3)
    assert image.dtype == np.uint8
    if mode in ("RGBA", "P"):
        np.testing.assert_array_equal(image, pixels)
    if mode == "CMYK":
        assert np.abs(image[10, 8].astype(int) - (255, 0, 0)).max() < 40
    if mode in ("L", "LA"):
        np.testing.assert_array_equal(image[..., 0], image[..., 2])
        assert image[0, 0, 0] == 255


def test_sixteen_bits_keep_the_upper_eight(tmp_path: Path) -> None:
    wide = np.array([[0, 255, 256, 0x7FFF], [0x8000, 0xFF00, 0xFFFF, 1]], np.uint16)
    Image.fromarray(wide).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[..., 1], wide >> 8)


@pytest.mark.parametrize("size", [(1, 1), (20000, 30), (30, 20000), (3, 2000)])
def test_odd_sizes_fit_the_network(size: tuple[int, int], tmp_path: Path) -> None:
    Image.new("RGB", size, (9, 200, 40)).save(tmp_path / "a.png")
    array, box = letterbox(read_image(tmp_path / "a.png"))
    assert array.shape == (3, 640, 640)
    assert (np.abs(array[1] - 200 / 255) < 0.01).any()
    assert (box.width, box.height) == size


def test_truncated_empty_and_foreign_files_are_refused(pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    big = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    for suffix in ("jpg", "png", "webp", "bmp"):
        path = tmp_path / f"cut.{suffix}"
        Image.fromarray(big).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(YoloproofError, match="truncated"):
            read_image(path)
    for content, words in (
        (b"", "empty file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"hello", "not an image"),
    ):
        (tmp_path / "x.jpg").write_bytes(content)
        with pytest.raises(YoloproofError, match=words):
            read_image(tmp_path / "x.jpg")
    with pytest.raises(YoloproofError, match="no such file"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(YoloproofError, match="folder"):
        read_image(tmp_path)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    Image.new("1", (20000, 20000)).save(tmp_path / "bomb.png")
    with pytest.raises(YoloproofError, match="over 178,956,970 pixels"):
        read_image(tmp_path / "bomb.png")


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    Image.new("F", (4, 4), 0.5).save(tmp_path / "a.tiff")
    with pytest.raises(YoloproofError, match="floating-point"):
        read_image(tmp_path / "a.tiff")


@pytest.mark.parametrize("imgsz", [(640, 640), (384, 640), (320, 96)])
@pytest.mark.parametrize("size", [(640, 480), (333, 1001), (50, 50), (641, 479)])
def test_boxes_come_back_to_where_they_were(size: tuple[int, int], imgsz: tuple[int, int]) -> None:
    """A white rectangle, found again in the network input by its brightness, lands on itself to a pixel's scale."""
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    x1, y1, x2, y2 = width // 4, height // 3, width // 2, height - height // 5
    image[y1:y2, x1:x2] = 255
    array, box = letterbox(image, imgsz)
    rows, columns = np.nonzero(array[0] > 0.6)
    found = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1, 0.9, 3]], np.float32)
    back = boxes_to_image(found, box)
    assert np.abs(back[0, :4] - (x1, y1, x2, y2)).max() <= 1.5 / box.scale
    np.testing.assert_array_equal(back[0, 4:], found[0, 4:])


def test_boxes_are_cut_at_the_images_edges() -> None:
    _, box = letterbox(np.zeros((100, 200, 3), np.uint8))
    back = boxes_to_image(np.array([[-50, -50, 9000, 9000, 1, 0]], np.float32), box)
    np.testing.assert_array_equal(back[0, :4], (0, 0, 200, 100))


def test_border_is_grey_and_the_odd_pixel_goes_below() -> None:
    array, box = letterbox(np.full((101, 200, 3), 255, np.uint8), (640, 640))
    assert box.top == 158  # 640 - 323 = 317 rows: 158 above, 159 below
    np.testing.assert_allclose(array[:, :158], 114 / 255, atol=1e-6)
    np.testing.assert_allclose(array[:, 481:], 114 / 255, atol=1e-6)
    assert array[:, 158:481].min() == pytest.approx(1.0)


def test_find_images(pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    for name in ("b.jpg", "a.PNG", "sub/c.webp", "odd.dat"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / name, "PNG")
    (tmp_path / "note.txt").write_text("no picture")
    names = [path.name for path in find_images([tmp_path])]
    assert names == ["a.PNG", "b.jpg", "c.webp"]
    assert [p.name for p in find_images([tmp_path / "odd.dat", f"{tmp_path}/*.jpg", tmp_path / "b.jpg"])] == [
        "odd.dat",
        "b.jpg",
    ]
    for argument in (tmp_path / "none", f"{tmp_path}/*.bmp"):
        with pytest.raises(YoloproofError, match="no such file, folder or pattern"):
            find_images([argument])
    (tmp_path / "empty").mkdir()
    with pytest.raises(YoloproofError, match="no images"):
        find_images([tmp_path / "empty"])


def test_letterboxed_names_the_file_that_fails(pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"x")
    assert letterboxed([tmp_path / "a.png"] * 2, (64, 96)).shape == (2, 3, 64, 96)
    with pytest.raises(YoloproofError, match=r"b\.png"):
        letterboxed([tmp_path / "a.png", tmp_path / "b.png"])
    with pytest.raises(YoloproofError, match="no images"):
        letterboxed([])


def test_postscript_under_an_images_name_starts_no_ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = tmp_path / "started"
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {started}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", "EPS")
    for read in (read_image, lambda path: yolo_set(path.parent, ["cat"])):
        (tmp_path / "a.txt").write_text("0 0.5 0.5 0.1 0.1")
        with pytest.raises(YoloproofError, match=r"not read here|cannot be read"):
            read(tmp_path / "a.jpg")
    assert not started.exists()
