"""Pixels of DICOM files, held against pydicom's own functions on the files that pydicom carries."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import ImageCms
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from snellen.core.errors import PictureError
from snellen.imaging.readers import list_pictures, read_location, read_picture


def packaged(name: str) -> Path:
    found = get_testdata_file(name, download=False)
    assert isinstance(found, str)
    return Path(found)


def load(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # these files are odd on purpose
        data = pydicom.dcmread(packaged(name), force=True)
        data.convert_pixel_data()
    return data


def make_dicom(values: np.ndarray, **tags: Any) -> Dataset:
    """A grey file `(H, W)`, frames `(N, H, W)` or, with SamplesPerPixel = 3, colour `(H, W, 3)`."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3.4"
    is_colour = "SamplesPerPixel" in tags
    data.Rows, data.Columns = values.shape[-3:-1] if is_colour else values.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8 * values.dtype.itemsize
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(values.dtype.kind == "i")
    if values.ndim == 3 and not is_colour:
        data.NumberOfFrames = len(values)
    for name, value in tags.items():
        setattr(data, name, value)
    data.PixelData = values.tobytes() + b"\0" * (values.nbytes % 2)
    data["PixelData"].VR = "OB" if values.dtype.itemsize == 1 else "OW"
    return data


def write(path: Path, data: Dataset) -> Path:
    pydicom.dcmwrite(path, data, enforce_file_format=True)
    return path


def read(tmp_path: Path, data: Dataset) -> Any:
    return read_picture(write(tmp_path / "x.dcm", data))


def scale(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip(np.rint((values - low) / (high - low) * 255), 0, 255)


# MR_small is windowed (centre 600, width 1600); its signed 16 bits are the range of what pydicom's window gives
@pytest.mark.parametrize(
    "name",
    [
        "MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm", "MR_small_padded.dcm",
        "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_expb.dcm",
    ],
)  # fmt: skip
def test_windowed_values_are_those_of_pydicom(name: str) -> None:
    data = load(name)
    expected = scale(apply_voi_lut(apply_modality_lut(data.pixel_array, data), data), -32768, 32767)
    picture = read_picture(packaged(name))
    assert picture.pixels.dtype == np.uint8
    assert np.array_equal(picture.pixels, expected)
    assert (picture.format, picture.bits, picture.notes) == ("DICOM", 8, ("dicom_window",))
    assert (picture.width_px, picture.height_px) == (64, 64)
    assert np.ptp(picture.pixels) > 100


def test_rescaled_and_windowed_values_are_those_of_pydicom() -> None:
    data = load("693_J2KI.dcm")  # CT: signed 14 bits, intercept -1024, lossy JPEG 2000
    low, high = (float(data.RescaleIntercept) + end for end in (-8192, 8191))
    expected = scale(apply_voi_lut(apply_modality_lut(data.pixel_array, data), data), low, high)
    assert np.array_equal(read_picture(packaged("693_J2KI.dcm")).pixels, expected)


@pytest.mark.parametrize(
    "name",
    [
        "SC_rgb_rle.dcm", "SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_jpeg_gdcm.dcm", "SC_rgb_jpeg_lossy_gdcm.dcm",
        "SC_rgb_gdcm_KY.dcm", "SC_rgb_jls_lossy_line.dcm", "SC_rgb_jls_lossy_sample.dcm", "SC_rgb_small_odd.dcm",
        "SC_rgb_small_odd_jpeg.dcm", "SC_rgb_small_odd_big_endian.dcm", "SC_ybr_full_422_uncompressed.dcm",
        "SC_rgb_dcmtk_+eb+cy+np.dcm", "SC_rgb_dcmtk_+eb+cy+s4.dcm", "SC_rgb_jpeg_dcmd.dcm", "GDCMJ2K_TextGBR.dcm",
        "examples_jpeg2k.dcm", "examples_rgb_color.dcm", "ExplVR_BigEnd.dcm", "SC_jpeg_no_color_transform.dcm",
    ],
)  # fmt: skip
def test_colours_are_those_of_pydicom(name: str) -> None:
    picture = read_picture(packaged(name))
    assert picture.pixels.dtype == np.uint8
    assert np.array_equal(picture.pixels, load(name).pixel_array)


def test_deflated_file_is_read() -> None:
    assert np.array_equal(read_picture(packaged("image_dfl.dcm")).pixels, load("image_dfl.dcm").pixel_array)


@pytest.mark.parametrize("name", ["CT_small.dcm", "JPEG2000.dcm", "SC_rgb_rle_16bit.dcm"])
def test_values_without_a_window_are_kept(name: str) -> None:
    data = load(name)
    picture = read_picture(packaged(name))
    assert picture.pixels.dtype != np.uint8
    assert np.array_equal(picture.pixels, apply_modality_lut(data.pixel_array, data))
    assert (picture.bits, picture.notes) == (16, ())


def test_jpeg_extended_of_12_bits_is_read() -> None:
    # pydicom does not decode it; two values that its documentation and GDCM's tests agree on
    picture = read_picture(packaged("JPGExtended.dcm"))
    assert picture.pixels.shape == (1024, 256)
    assert (picture.pixels[420, 140], picture.pixels[230, 120]) == (244, 95)
    assert picture.bits == 12


def test_palette_is_looked_up() -> None:
    data = load("examples_palette.dcm")
    expected = apply_color_lut(data.pixel_array, data)
    picture = read_picture(packaged("examples_palette.dcm"))
    assert np.array_equal(picture.pixels, expected >> 8 if expected.max() > 255 else expected)
    assert picture.pixels.ndim == 3


def test_one_bit_pictures_are_black_and_white() -> None:
    picture = read_picture(packaged("liver_1frame.dcm"))
    assert np.array_equal(picture.pixels, load("liver_1frame.dcm").pixel_array * 255)


@pytest.mark.parametrize("index", [0, 7, 29])
def test_a_frame_is_read_by_its_number(index: int) -> None:
    path = packaged("examples_ybr_color.dcm")
    picture = read_location(path.parent, f"{path.name}::frame[{index}]")
    assert np.array_equal(picture.pixels, load(path.name).pixel_array[index])


def test_list_pictures_names_every_frame() -> None:
    names = list_pictures(str(packaged("examples_ybr_color.dcm")))
    assert len(names) == 30
    assert names[0].endswith("examples_ybr_color.dcm::frame[0]")
    assert names[-1].endswith("examples_ybr_color.dcm::frame[29]")
    assert list_pictures(str(packaged("CT_small.dcm"))) == [str(packaged("CT_small.dcm"))]


def test_several_frames_without_a_number_are_refused() -> None:
    with pytest.raises(PictureError, match="30 frames") as caught:
        read_picture(packaged("examples_ybr_color.dcm"))
    assert "frame[0]" in caught.value.hint


def test_absent_frame_is_refused() -> None:
    path = packaged("examples_ybr_color.dcm")
    with pytest.raises(PictureError, match="no frame 30"):
        read_location(path.parent, f"{path.name}::frame[30]")


def test_only_frame_can_be_named() -> None:
    path = packaged("CT_small.dcm")
    assert np.array_equal(read_location(path.parent, "CT_small.dcm::frame[0]").pixels, read_picture(path).pixels)


def test_frames_of_a_file_that_was_written_anew_are_read_anew(tmp_path: Path) -> None:
    for level in (1, 2):
        frames = np.full((2, 4, 4 + level), level, np.uint8)
        write(tmp_path / "x.dcm", make_dicom(frames))
        assert (read_location(tmp_path, "x.dcm::frame[1]").pixels == level).all()


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.uint8).reshape(3, 4)
    picture = read(tmp_path, make_dicom(values, PhotometricInterpretation="MONOCHROME1"))
    assert np.array_equal(picture.pixels, 255 - values)


def test_windowed_monochrome1_is_inverted(tmp_path: Path) -> None:
    values = np.arange(0, 4096, 40, dtype=np.uint16).reshape(1, -1)
    window = {"WindowCenter": 2048, "WindowWidth": 1000, "BitsStored": 12, "HighBit": 11}
    plain = read(tmp_path, make_dicom(values, **window)).pixels
    inverted = read(tmp_path, make_dicom(values, PhotometricInterpretation="MONOCHROME1", **window)).pixels
    assert np.array_equal(inverted, 255 - plain)
    assert (plain[0, 0], plain[0, -1]) == (0, 255)


def test_deep_monochrome1_is_inverted_within_its_range(tmp_path: Path) -> None:
    values = np.array([[0, 1, 4095]], np.uint16)
    made = make_dicom(values, BitsStored=12, HighBit=11, PhotometricInterpretation="MONOCHROME1")
    assert read(tmp_path, made).pixels.tolist() == [[4095, 4094, 0]]


def test_fewer_than_8_bits_fill_the_range(tmp_path: Path) -> None:
    made = make_dicom(np.array([[0, 1, 2, 3]], np.uint8), BitsStored=2, HighBit=1)
    assert read(tmp_path, made).pixels.tolist() == [[0, 85, 170, 255]]


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_window_functions_are_those_of_pydicom(tmp_path: Path, function: str) -> None:
    values = np.arange(0, 4096, 16, dtype=np.uint16).reshape(16, 16)
    data = make_dicom(values, BitsStored=12, HighBit=11, WindowCenter=1800, WindowWidth=900, VOILUTFunction=function)
    expected = scale(apply_voi_lut(values, data), 0, 4095)
    assert np.array_equal(read(tmp_path, data).pixels, expected)


def test_look_up_table_is_applied(tmp_path: Path) -> None:
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [256, 0, 12])
    table.add_new("LUTData", "US", [4095 - 16 * level for level in range(256)])
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    data = make_dicom(values, VOILUTSequence=Sequence([table]))
    expected = scale(apply_voi_lut(values, data), 0, 4095)
    picture = read(tmp_path, data)
    assert np.array_equal(picture.pixels, expected)
    assert picture.notes == ("dicom_window",)


def test_window_of_a_frame_in_an_enhanced_file_is_applied(tmp_path: Path) -> None:
    values = np.arange(200, dtype=np.uint16).reshape(2, 10, 10)
    groups = []
    for centre in (50, 150):
        window, group = Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth = centre, 101
        group.FrameVOILUTSequence = Sequence([window])
        groups.append(group)
    write(tmp_path / "x.dcm", make_dicom(values, PerFrameFunctionalGroupsSequence=Sequence(groups)))
    first, second = (read_location(tmp_path, f"x.dcm::frame[{index}]").pixels for index in (0, 1))
    assert np.ptp(first) > 200
    assert np.array_equal(first, second)  # values and window both lie 100 higher


def test_window_that_cannot_be_used_is_told_and_values_stay(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.uint16).reshape(3, 4) * 300
    picture = read(tmp_path, make_dicom(values, WindowCenter=100, WindowWidth=0))
    assert picture.notes == ("dicom_window_ignored",)
    assert np.array_equal(picture.pixels, values)


def test_signed_values_stay_signed(tmp_path: Path) -> None:
    values = np.array([[-1024, 0, 3000]], np.int16)
    picture = read(tmp_path, make_dicom(values))
    assert picture.pixels.dtype == np.int32
    assert np.array_equal(picture.pixels, values)


def test_rescaled_values_are_rounded(tmp_path: Path) -> None:
    values = np.array([[0, 1, 1000]], np.uint16)
    assert read(tmp_path, make_dicom(values, RescaleSlope="0.5", RescaleIntercept="10")).pixels.tolist() == [
        [10, 10, 510]
    ]


def test_fractions_that_rounding_would_destroy_are_refused(tmp_path: Path) -> None:
    data = make_dicom(np.arange(12, dtype=np.uint16).reshape(3, 4), RescaleSlope="1e-5", RescaleIntercept="0")
    with pytest.raises(PictureError, match="fractions"):
        read(tmp_path, data)


def test_planar_colours_are_interleaved(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    tags = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}
    data = make_dicom(rgb, **tags, PlanarConfiguration=1)
    data.PixelData = np.ascontiguousarray(rgb.transpose(2, 0, 1)).tobytes()
    assert np.array_equal(read(tmp_path, data).pixels, rgb)


def test_profile_that_is_srgb_leaves_colours_alone(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tags = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    picture = read(tmp_path, make_dicom(rgb, **tags, ICCProfile=profile + b"\0" * (len(profile) % 2)))
    assert np.array_equal(picture.pixels, rgb)
    assert picture.notes == ()


@pytest.mark.parametrize("name", ["test-SR.dcm", "rtplan.dcm", "rtstruct.dcm", "waveform_ecg.dcm", "reportsi.dcm"])
def test_file_without_pixels_holds_no_picture(name: str) -> None:
    with pytest.raises(PictureError, match="holds no picture"):
        read_picture(packaged(name))


def test_floats_are_refused(tmp_path: Path) -> None:
    data = make_dicom(np.zeros((4, 4), np.uint16))
    del data.PixelData
    data.FloatPixelData = np.zeros((4, 4), np.float32).tobytes()
    data.BitsAllocated = 32
    with pytest.raises(PictureError, match="floating-point"):
        read(tmp_path, data)


def test_file_without_preamble_and_meta_is_read(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.uint8).reshape(3, 4)
    data = make_dicom(values)
    del data.file_meta
    pydicom.dcmwrite(tmp_path / "x.dcm", data, implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert b"DICM" not in (tmp_path / "x.dcm").read_bytes()
    assert np.array_equal(read_picture(tmp_path / "x.dcm").pixels, values)


def test_path_and_bytes_and_a_name_without_suffix_agree(tmp_path: Path) -> None:
    data = packaged("CT_small.dcm").read_bytes()
    (tmp_path / "IM1").write_bytes(data)
    expected = read_picture(packaged("CT_small.dcm")).pixels
    assert np.array_equal(read_picture(data).pixels, expected)
    assert np.array_equal(read_picture(tmp_path / "IM1").pixels, expected)


def test_png_called_dcm_is_read_as_what_it_is(tmp_path: Path) -> None:
    from pictures import draw_noise, encode

    (tmp_path / "x.dcm").write_bytes(encode(draw_noise(1)))
    assert np.array_equal(read_picture(tmp_path / "x.dcm").pixels, draw_noise(1))


@pytest.mark.parametrize(
    "name",
    [
        "SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_jpeg_gdcm.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_jp2klossless.dcm",
        "MR_small_RLE.dcm", "SC_rgb_gdcm_KY.dcm", "JPGExtended.dcm",
    ],
)  # fmt: skip
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_stream_is_refused(tmp_path: Path, name: str, share: float) -> None:
    data = pydicom.dcmread(packaged(name))
    frame = next(generate_frames(data.PixelData, number_of_frames=1))
    data.PixelData = encapsulate([frame[: int(len(frame) * share)]])
    with pytest.raises(PictureError):
        read_picture(write(tmp_path / "x.dcm", data))


def test_truncated_file_is_refused() -> None:
    with pytest.raises(PictureError, match="damaged"):
        read_picture(packaged("MR_truncated.dcm"))


def set_size(data: Any) -> None:
    data.Rows = data.Columns = 65_535


def set_many_frames(data: Any) -> None:
    data.NumberOfFrames = 2_000_000_000


def set_smaller(data: Any) -> None:
    data.Rows, data.Columns = 8, 8


@pytest.mark.parametrize("change", [set_size, set_many_frames, set_smaller])
@pytest.mark.parametrize("name", ["examples_jpeg2k.dcm", "SC_rgb_jpeg_dcmtk.dcm", "MR_small_jpeg_ls_lossless.dcm"])
def test_absurd_headers_are_refused_before_decoding(tmp_path: Path, name: str, change: Callable[[Any], None]) -> None:
    data = pydicom.dcmread(packaged(name))
    change(data)
    with pytest.raises(PictureError, match=r"limit|claims|header says"):
        read_picture(write(tmp_path / "x.dcm", data))


def test_absurd_size_of_uncompressed_pixels_is_refused(tmp_path: Path) -> None:
    data = make_dicom(np.zeros((4, 4), np.uint16))
    data.Rows = data.Columns = 20_000
    with pytest.raises(PictureError, match="limit"):
        read(tmp_path, data)


def test_unknown_compression_is_refused(tmp_path: Path) -> None:
    data = make_dicom(np.zeros((4, 4), np.uint8))
    path = write(tmp_path / "x.dcm", data)
    # MPEG2, whose name is as long as that of explicit little endian plus two digits: the meta length stays right
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"
    data.PixelData = encapsulate([b"\0\0\1\xba" * 4])
    data["PixelData"].is_undefined_length = True
    with pytest.raises(PictureError, match="compressed in a way"):
        read_picture(write(path, data))


def test_deflated_file_written_here_is_read(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.uint8).reshape(3, 4)
    data = make_dicom(values)
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    assert np.array_equal(read(tmp_path, data).pixels, values)


@pytest.mark.parametrize("name", ["CT_small.dcm", "SC_rgb_jpeg_dcmtk.dcm", "MR_small_RLE.dcm", "examples_jpeg2k.dcm"])
def test_damage_gives_a_picture_or_a_picture_error_that_tells_nothing(tmp_path: Path, name: str) -> None:
    data = pydicom.dcmread(packaged(name))
    data.PatientName, data.PatientID, data.StudyDescription = "SECRET^JANE", "SECRET1", "SECRET"
    whole = np.frombuffer(write(tmp_path / "x.dcm", data).read_bytes(), np.uint8)
    random = np.random.default_rng(0)
    told = []
    for _ in range(60):
        changed = whole.copy()
        places = random.integers(130, len(changed), random.integers(1, 12))
        changed[places] = random.integers(0, 256, len(places))
        try:
            read_picture(changed.tobytes())
        except PictureError as error:
            told.append(f"{error} {error.__cause__}")
    assert not any("SECRET" in text for text in told)


def test_missing_pydicom_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(PictureError, match=r"pip install 'snellen\[dicom\]'"):
        read_picture(packaged("CT_small.dcm"))


def test_missing_decoder_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.is_available", False)
    with pytest.raises(PictureError, match=r"python-gdcm.*pip install 'snellen\[dicom\]'"):
        read_picture(packaged("SC_rgb_jpeg_gdcm.dcm"))


@pytest.mark.parametrize("name", sorted(path.name for path in packaged("CT_small.dcm").parent.glob("*.dcm")))
def test_every_packaged_file_is_a_picture_or_says_why_not(name: str) -> None:
    for location in list_pictures(str(packaged(name)))[:2]:
        try:
            picture = read_location(Path(), location)
        except PictureError:
            continue
        assert picture.pixels.shape[:2] == (picture.height_px, picture.width_px)
        assert (picture.bits == 8) == (picture.pixels.dtype == np.uint8)
