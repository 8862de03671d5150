"""Writes the reference pages that follow from the source: docs/reference/{cli,recipe,recipes,errors,issues}.md.

    python docs/generate.py            write them
    python docs/generate.py --check    exit 1 naming those that are stale

What is written depends on the source alone: not on the terminal, the machine or the order of files.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
import tomllib
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import typer.main
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from snellen.cli import app
from snellen.core import errors
from snellen.planning.recipe_files import read_recipe_text
from snellen.records import layers, recipe
from snellen.records.issue_texts import ISSUE_TEXTS

REFERENCE = Path(__file__).parent / "reference"
_NOTE = "<!-- Written by docs/generate.py from the source. Do not edit: run `python docs/generate.py`. -->\n"

_PLACEHOLDERS = {
    "--out": "PATH",
    "--set": "KEY=VALUE",
    "--columns": "ROLE=NAME,…",
    "--patients": "RULE",
    "--cache": "DIR",
    "--recipe": "NAME or FILE",
    "--resume": "RUN",
    "--seed": "N",
    "--track": "NAME",
    "--trials": "N",
    "--timeout": "SECONDS",
    "--storage": "URL",
    "--by": "COLUMN",
    "--db": "URL",
    "--before": "TIME",
    "--since": "TIME",
    "--until": "TIME",
    "--keep-days": "N",
    "--anchor": "FILE",
    "--reason": "TEXT",
}

_CLI_HEAD = """# Commands

`snellen --help` lists the commands, `snellen COMMAND --help` explains one, `snellen --version` prints the version.
`python -m snellen` is the same as `snellen`.

| exit code | meaning |
| --- | --- |
| 0 | done; `predict` also where single pictures could not be read: their rows say why |
| 1 | a defect of Snellen, shown as a traceback: please report it |
| 2 | bad usage or bad data; standard error says what is wrong, where, and what to do |
| 130 | stopped with Ctrl-C; what is computed is kept |

Results go to standard output, steps and progress to standard error. Bars are shown in a terminal only.
The cache lies where `--cache` says, else where the environment variable `SNELLEN_CACHE` says, else in the user's cache
folder. `snellen cache info` prints the place. Sets of `snellen fetch` lie where `SNELLEN_DATA` says, else in the user's
folder for data.
"""

_RECIPE_HEAD = """# Recipe

A recipe is a TOML file with wishes. Every key may be left out; the default then holds. `"auto"` leaves the value to the
planner, which writes into `plan.json` what it chose and why: see [planning](../explanation/planning.md).
`snellen recipes auto` prints a recipe to start from; `--set KEY=VALUE` sets one key, for example
`--set preprocess.size=320` or `--set training.stages.0.epochs=30`. Unknown keys are errors.
"""

# Keys without a comment in auto.toml. A key that has neither is an error of this script.
_MEANINGS = {
    "name": "name of the recipe in records and folders; without it the file's name",
    "description": "what `snellen recipes` prints beside the name",
    "augment.flip_horizontal": "mirror left and right in half of the views",
    "augment.flip_vertical": "mirror up and down in half of the views",
    "model.backbone_args": 'arguments that go to timm as they are, such as `{ pad_type = "same" }`',
    "training.threads": "processors to use",
    "tune.space": "dotted keys → `{ low, high, log }` or `{ choices }`, with `when`: see [tuning](../how-to/tune.md); "
    '`"auto"` is the space of the recipe `auto`',
    "tune.pixel_space": "the same, for keys that change the pixels; tried where `pixels` is true",
}

_STAGES = (
    ("`[[training.stages]]`, the first: the head", recipe.StageWish),
    ("`[[training.stages]]`, the others: fine-tuning", recipe.FinetuneWish),
)
_LAYERS = (
    layers.GlobalAvgPool, layers.Flatten, layers.MaxPool, layers.Conv, layers.Attention, layers.BatchNorm, layers.Dense,
    layers.Relu, layers.Prelu, layers.Dropout, layers.GaussianNoise,
)  # fmt: skip

_RECIPES_HEAD = """# Recipes of published systems

Each of these recipes holds a published system as a TOML file of at most 50 lines, and trains it by one command, under
the protocol of all other runs: patients are never divided, validation chooses, test is opened once. `snellen recipes`
lists them; `snellen plan DATA --recipe NAME` shows every layer with its parameters before anything is learned. Any key
can be changed with `--set`, and a recipe copied to a file is one of your own: see
[own recipes](../how-to/own-recipe.md).

What the published description leaves open is chosen as usual, and the recipe's comment says so. Keys are counted from
0: `model.head.2` is the third layer.
"""

_TAKES = {
    "global_avg_pool": "map", "flatten": "map", "max_pool": "map", "conv": "map", "attention": "map",
    "dense": "features",
}  # fmt: skip

_LAYERS_HEAD = """## Layers of `model.head` and `model.layers`

A head is a list of layers behind the backbone, top down. Before `global_avg_pool` or `flatten` they work on the feature
map (D×h×w), behind it on features. The closing dense layer to the classes is added; it is not listed. Examples:

```toml
head = [{ type = "global_avg_pool" }, { type = "dense", units = 128 }, { type = "relu" }, { type = "dropout", p = 0.3 }]
head = [{ type = "attention", kind = "gap" }, { type = "global_avg_pool" }, { type = "batch_norm", affine = true }]
```

A head that begins with `global_avg_pool` learns on pooled features, in seconds; any other on the feature map of every
picture and view, which is kept in the cache: see [own recipes](../how-to/own-recipe.md). `model.layers` lists the
blocks of a small backbone; there `global_avg_pool`, `flatten`, `dense` and `gaussian_noise` are unknown. Shapes are
checked before anything is learned; `snellen plan DATA` shows each layer with its output and parameters.
"""

_API_HEAD = """# HTTP API

What `snellen serve` answers, from its OpenAPI document (`/v1/openapi.json`; as a page at `/docs`). How to run it:
[serve a model](../how-to/serve.md).

Where keys are asked for, send the header `Authorization: Bearer KEY`. A key has one role: `predict` (models,
predictions, maps, its own jobs), `read` (models, history, metrics) or `admin` (everything). Every answer has the header
`X-Request-ID`.

Every error has one shape, `ErrorBody`: `{"error": {"code", "message", "hint", "request_id"}}`. `code` is stable:
"""

# status, codes, meaning
_API_CODES = (
    ("400", "bad_request, bad_form, broken_off", "No HTTP, no form, or a body that ends early."),
    ("401", "key_missing, key_unknown", "No key, or one that is unknown or revoked."),
    ("403", "role_missing", "The key's role does not allow it."),
    ("403", "cross_site, foreign_host", "Where no key is asked for: another site caused the request."),
    ("404", "not_found, unknown_model, unknown_job, no_card, no_results", "There is no such thing."),
    ("405", "method_not_allowed", "The route has other methods."),
    ("408", "slow_request", "The body did not arrive in time."),
    ("409", "bundle, job_open", "A new version was not taken; a job has not ended."),
    ("413", "too_large, picture_too_large, too_many_pictures", "A [limit](../how-to/serve.md#limits) is exceeded."),
    ("415", "wrong_content_type", "The body is no `multipart/form-data`."),
    ("422", "unreadable_picture", "No picture of the request can be read; of several pictures one's own `error`."),
    (
        "422",
        "no_pictures, unknown_field, one_picture",
        "The form holds no picture, a field that is not known, too many.",
    ),
    ("422", "invalid_request, unknown_class, model_missing", "A parameter does not fit."),
    ("422", "data", "The archives of a job are unsafe, or hold no picture."),
    ("429", "busy", "As much is under way as may be: come again after `Retry-After` seconds."),
    ("500", "internal", "A defect: report the request id."),
    ("503", "store_unavailable", "The audit database cannot record just now, and nothing is predicted unrecorded."),
    ("503", "too_slow, disk_full", "The answer took too long; there is no room for a job."),
)

_ISSUES_HEAD = """# Issues of the audit

The audit reads the data whole and writes what is wrong into `audit.json` as issues. An issue never stops a run; what
cannot be used is set aside and counted. `snellen audit DATA --strict` ends with exit code 2 where an issue is severe.

| severity | meaning |
| --- | --- |
| info | to know; nothing has to be done |
| warning | numbers may be worse or less certain than they could be |
| severe | labels contradict each other, a class is lost or given away, or training is impossible: act first |
"""

_EFFECTS_HEAD = """## What each does, and how to overrule

These texts stand in `audit.json` as `effect`, `action` and `overrule`.
"""

# code → severity, what it means, what to do. tests/contracts/test_docs.py holds this against the source.
ISSUES: dict[str, tuple[str, str, str]] = {
    "shortcut_facts": (
        "severe",
        "The class can be told from facts of the files alone (format, size, compression, embedded data, form of the "
        "name): the lower limit of the AUC's interval is above 0.7. The message says which facts do it.",
        "Export all classes in one way, or give each source as DATA of its own: see "
        "[shortcuts](../explanation/shortcuts.md).",
    ),
    "shortcut_border": (
        "warning",
        "The class can be told from rim and corners of the pictures alone: the lower limit is above 0.7.",
        "Cut off what differs (`preprocess.crop_border=true`), unless the disease reaches the rim.",
    ),
    "names_tell_class": (
        "warning",
        "Of all facts of the files only the form of the name tells the class. No model sees names, but several forms "
        "often mean several sources.",
        "If so, measure on each source by itself.",
    ),
    "file_size_tells_class": (
        "info",
        "Of all facts of the files only the size in bytes tells the class. With equal format and compression that may "
        "be what the pictures show.",
        "Check that all classes were exported in one way.",
    ),
    "colours_tell_class": (
        "info",
        "Mean colour, brightness and contrast alone tell the class. In some diseases that is the disease.",
        "Nothing, where the disease changes colours. Else measure on another device.",
    ),
    "shortcuts_left_out": (
        "info",
        "Shortcuts were not looked for, in part or whole; the message says why. Classes of fewer than 3 patients are "
        "left out, the others are asked.",
        "Install what is missing, or look at formats, sizes and rims yourself.",
    ),
    "likely_wrong_labels": (
        "warning",
        "A probe that never saw the patient, cleanlab and the most similar pictures of other patients agree that the "
        "label is another. To know only (info) where they are fewer than 3 and than 1 %.",
        "Have an expert look at them without their labels.",
    ),
    "labels_left_out": (
        "info",
        "Likely wrong labels, outliers and patients who may be one were not looked for, or not all; the message says "
        "which and why. Classes of fewer than 3 patients keep their labels unasked, the others are asked.",
        "Install the extra `train`, or train: a run looks among the pictures that it learns from.",
    ),
    "outlying_pictures": (
        "warning",
        "Pictures that look like no other to a network: of another modality or body part, or damaged.",
        "Look whether they belong to the data.",
    ),
    "patients_look_alike": (
        "warning",
        "Many pictures have one of another patient that is as like them as pictures of one patient are.",
        "If they are of one patient, tell how: `--patients REGEX`, or of a table or array `--columns patient=NAME`.",
    ),
    "blurred_pictures": ("warning", "Pictures are far less sharp than the rest of the cohort.", "Look at them."),
    "overexposed_pictures": ("warning", "Large parts are white where the rest of the cohort is not.", "Look at them."),
    "underexposed_pictures": ("warning", "Pictures are far darker than the rest of the cohort.", "Look at them."),
    "tiny_pictures": (
        "warning",
        "Pictures are far smaller than the rest: less than a quarter of the usual shorter side, or below 64 px.",
        "Look for the full pictures.",
    ),
    "odd_colour_pictures": (
        "warning",
        "Pictures are grey where at least 90 % are in colour, or in colour where at least 90 % are grey.",
        "Look whether they belong to the data.",
    ),
    "cut_off_pictures": (
        "warning",
        "One side of a picture is of one shade where the rest of the cohort shows something.",
        "Export them again.",
    ),
    "text_in_pictures": (
        "warning",
        "At the rim of pictures there seem to be letters. A name there is a matter of privacy, and of shortcuts.",
        "Paint over or cut off the text before the data are passed on.",
    ),
    "conflicting_rows": (
        "severe",
        "A table names one picture twice with different labels. The first row was kept, the others set aside.",
        "Correct the table.",
    ),
    "splits_cannot_be_filled": (
        "severe",
        "A class has too few patients for train, val and test, or there is one class only. `snellen train` refuses.",
        "Collect more patients, remove the class, or say who the patients are.",
    ),
    "class_lost": (
        "severe",
        "No picture of a class can be read. The class is gone from the cohort.",
        "Copy or export its pictures again, then repeat the step.",
    ),
    "folders_hold_same_folders": (
        "severe",
        "All class folders hold folders of the same names, such as `siteA/normal` and `siteB/normal`: the inner ones "
        "look like the classes (or, called `train` and `test`, like splits). The outer ones were read as classes. Or "
        "one class folder holds folders that are called like the other classes, such as `export/amd` beside `amd`.",
        "Re-arrange the folders so that the classes are the outer ones, or give a table. Take an export or a copy of "
        "the classes out of the data.",
    ),
    "class_names_alike": (
        "severe",
        "Names of classes differ only in case or blanks, such as `Normal` and `normal`. They count as two.",
        "If they are one class, rename the folders or labels, or merge them with `snellen train DATA --set "
        "'data.merge=…'`.",
    ),
    "class_names_normalised": (
        "info",
        "Names of classes were written in different Unicode forms (composed and decomposed accents). One form is used.",
        "Nothing.",
    ),
    "unreadable_picture": (
        "warning",
        "Pictures are empty, truncated, damaged, too large, of floating-point numbers, or no pictures at all.",
        "Copy or export them again, then repeat the step.",
    ),
    "picture_not_in_table": (
        "warning",
        "Pictures below a table's folder that no row names. They have no label and were not read; they are not counted "
        "as set aside. Folders of which no picture is named, such as `masks/`, are named as a whole.",
        "Add rows for them if they belong to the data.",
    ),
    "missing_picture": (
        "warning",
        "Rows of a table name a picture that is not below the table's folder.",
        "Add the pictures, or remove the rows.",
    ),
    "ambiguous_picture": (
        "warning",
        "Rows name a picture that lies in several folders, and nothing tells which is meant.",
        "Write the folder into the image column, such as `left/0001.png`.",
    ),
    "empty_label": (
        "info",
        "Rows carry no label. They are taken for ungraded.",
        "Nothing, unless they should be graded.",
    ),
    "no_class_marked": (
        "warning",
        "A table has one column a class, and rows carry a 1 in none of them. They are taken for ungraded.",
        "If that means a class of its own, add a column for it.",
    ),
    "table_without_labels": (
        "warning",
        "There is one table a split, and one of them lacks the label's column, as test tables of challenges do. "
        "Its rows were set aside.",
        "Add the labels if they are known.",
    ),
    "ragged_row": (
        "warning",
        "Rows have more or fewer cells than the header. They were set aside, not shifted.",
        "Correct the rows; a cell with the delimiter in it needs quotes.",
    ),
    "labels_as_integers": (
        "info",
        "The labels are whole numbers that a program wrote with decimals (`0.0`, `1.0`). They were read as integers.",
        "Nothing.",
    ),
    "table_encoding": (
        "info",
        "A table is no UTF-8 and was read as Windows-1252.",
        "Check names with accents; export the table as UTF-8.",
    ),
    "picture_matched_loosely": (
        "info",
        "Rows name their picture with another case or extension than the file has, such as `x.jpeg` for `x.jpg`.",
        "Check the example.",
    ),
    "folder_chosen": (
        "warning",
        "Several folders hold pictures of the same names. The one called `images` was taken.",
        "If another is meant, give a copy of the data without the rest.",
    ),
    "picture_without_class": (
        "warning",
        "Pictures lie beside the class folders. They were set aside.",
        "Move them into the folder of their class.",
    ),
    "classes_differ_between_splits": (
        "warning",
        "The data bring their own splits, and some classes are missing in some of them.",
        "Check the names of the class folders.",
    ),
    "split_missing": ("info", "There is no `val` or no `test`. It is cut from `train` by patient.", "Nothing."),
    "unreadable_class": (
        "severe",
        "The folder of a class, or of a split, cannot be entered. All of its pictures are missing.",
        "Check the permissions.",
    ),
    "unreadable_folder": (
        "warning",
        "Folders cannot be entered. Their pictures are missing and could not be counted.",
        "Check the permissions.",
    ),
    "circular_link": ("info", "Links lead back to a folder above them. They were not followed.", "Nothing."),
    "special_file": (
        "warning",
        "Entries of a folder are devices, pipes or sockets, or links to one. They were not opened; those called like "
        "pictures were set aside.",
        "Put the pictures there, or remove the entries.",
    ),
    "file_not_used": (
        "info",
        "Files beside the pictures are neither pictures nor tables that were used.",
        "Nothing, unless one of them is a picture.",
    ),
    "archive_not_opened": (
        "warning",
        "Archives lie within the data. They were not opened.",
        "Unpack them if they belong to the data.",
    ),
    "damaged_entry": (
        "warning",
        "Pictures in a zip archive are damaged. They were set aside.",
        "Copy the archive again.",
    ),
    "multi_frame_files": (
        "info",
        "DICOM files hold several pictures. Each frame is a sample; frames of a patient stay together.",
        "Nothing.",
    ),
    "too_many_frames": (
        "warning",
        "DICOM files claim more than 10,000 frames. They were set aside.",
        "Export them again.",
    ),
    "dicomdir_not_used": ("info", "A `DICOMDIR` is a table of contents, no picture.", "Nothing."),
    "hdf5_links_not_used": (
        "info",
        "Links inside an HDF5 file were not followed.",
        "Copy what they lead to, if it is needed.",
    ),
    "split_not_used": (
        "warning",
        "A column looks like splits, but some of its values are none. The column was not used.",
        "Correct the values to train, val and test, or tell the column with `--columns split=NAME`.",
    ),
    "unreadable_name": (
        "warning",
        "Names of pictures that are no UTF-8. They were set aside.",
        "Rename them, or unpack the archive again with the right encoding.",
    ),
    "folder_without_pictures": (
        "warning",
        "Folders beside the class folders hold no picture that Snellen reads. They are no classes.",
        "Export their pictures in a format that is read if they belong to the data.",
    ),
    "repeated_row": ("info", "Rows repeat an earlier row with the same label.", "Nothing: each picture counts once."),
    "table_not_used": (
        "info",
        "A table lies beside class folders. The labels are the folder names; the table was not read.",
        "To take labels from the table, give the table as DATA.",
    ),
    "folder_not_used": (
        "warning",
        "Beside `train`, `val` and `test` lie other folders. They were not read.",
        "Move pictures that belong to the data into one of the three.",
    ),
    "packed_data": (
        "info",
        "DATA is a file of `snellen pack`. Its pictures are preprocessed already; patients, splits and the other "
        "issues are those of the data that it was packed from.",
        "To change any of them, repeat `snellen pack` on the original data.",
    ),
    "patients_unknown": (
        "warning",
        "Nothing tells which pictures are of one patient. Each is taken for a patient of its own. If that is wrong, "
        "patients leak between the splits, and every number is too good.",
        "Say how to tell: `--columns patient=NAME` (tables, arrays) or `--patients REGEX`. Fill in empty cells.",
    ),
    "patients_alike": (
        "warning",
        "Ids of patients differ only in case, blanks or decimals, such as `P1` and `p1`. They count as two patients.",
        "If they are one patient, write the ids alike.",
    ),
    "patients_as_integers": (
        "info",
        "The ids of patients are whole numbers that a program wrote with decimals, such as `12.0`. Read as integers.",
        "Nothing.",
    ),
    "split_untold": (
        "warning",
        "The data bring their own splits, and some pictures have none. They are left out of all three.",
        "Write their split.",
    ),
    "patients_inferred": (
        "info",
        "Patients were told from file names by a rule. The message names the rule and gives examples.",
        "Check the examples. If they are wrong: `--columns patient=NAME` (tables, arrays) or `--patients REGEX`.",
    ),
    "patients_in_several_splits": (
        "warning",
        "The data bring their own splits, and a patient occurs in several of them.",
        "Nothing: the pictures stay in test before val before train, the others are left out and counted in "
        "`splits.csv`.",
    ),
    "copies_in_several_splits": (
        "warning",
        "The data bring their own splits, and identical pictures, or transformed copies, occur in several of them.",
        "Nothing: as above.",
    ),
    "blank_pictures": (
        "warning",
        "Pictures are all one colour, or so nearly that nothing can be seen in them.",
        "Take them out, or export them again: the model would learn that an empty picture means their class.",
    ),
    "labels_joined": (
        "warning",
        "`data.merge` makes a class of a name that the data have as a label, and lists that label nowhere.",
        "Both are one class. If that is not meant, list the label in another class, or rename the class.",
    ),
    "folders_not_used": (
        "info",
        "The pictures lie in folders that are named otherwise than the table labels them; the table was taken.",
        "If the folders hold the labels, give a copy of them without the table.",
    ),
    "class_names_vague": (
        "info",
        "A class is named like no finding, such as `unknown`, `ungradable`, `other` or `n/a`.",
        "If its pictures were not graded, or cannot be, leave them out; else nothing.",
    ),
    "patients_of_several_classes": (
        "info",
        "Most patients that were inferred from names have pictures of several classes.",
        "Where numbers begin anew in each class these are different patients: tell them by `--patients` or a column. "
        "Where one patient does show several classes, nothing.",
    ),
    "patients_labelled_differently": (
        "info",
        "Pictures of one patient carry different labels. Two eyes of a person can differ, and so can two places or "
        "visits.",
        "Where they cannot, have the labels looked at.",
    ),
    "damaged_packed_picture": (
        "severe",
        "Pictures of a packed file are damaged: they cannot be read, or their checksum is wrong.",
        "Copy the file again from where it was packed, or repeat `snellen pack`; `train` refuses it.",
    ),
    "exact_duplicates": (
        "info",
        "Pictures have identical pixels, whatever their file names and formats are.",
        "Nothing: copies stay on one side of every split.",
    ),
    "conflicting_copies": (
        "severe",
        "Pictures with identical pixels, or transformed copies of one picture, carry different labels. Where no such "
        "pair is sure (identical, or 95 % alike in half of the picture or more) the severity is warning.",
        "Look at them, and ask whoever graded them. Until then both labels are kept and count as noise.",
    ),
    "transformed_copies": (
        "warning",
        "Pictures show the same picture again: mirrored, turned, cropped, resized, brightened, noised or compressed. "
        "Within one patient the severity is info. They are [searched for](../explanation/copies.md) by local features "
        "and laid on each other.",
        "Nothing to do: they stay on one side of every split and fold. If they are different photographs, "
        "`snellen train DATA --set data.copies=exact` (`snellen audit --copies exact`) keeps identical pictures "
        "together only.",
    ),
    "copies_not_searched": (
        "warning",
        "`data.copies` (`--copies`) is `off`: not even identical pictures are kept together. With `exact`, and by rule "
        "in training on more than 4,000 pictures, transformed copies are not looked for; the severity is info.",
        "`snellen audit` looks for all; `snellen train DATA --set data.copies=all` keeps what it finds together.",
    ),
    "animated_pictures": (
        "info",
        "Files hold several pictures as an animation (GIF, WebP, APNG). The first is used.",
        "Export the pictures that matter one by one if it is not the first.",
    ),
    "multi_page_pictures": (
        "info",
        "TIFF files hold several pages. The first is used.",
        "Export the pages that matter one by one if it is not the first.",
    ),
    "transparent_pictures": (
        "info",
        "Pictures have transparent parts. They are laid on the background of the plan, white by rule.",
        "Set `preprocess.background` to white or black, whichever the pictures were drawn for.",
    ),
    "colour_profiles": (
        "info",
        "Pictures carry a colour profile other than sRGB. They were converted to sRGB.",
        "Nothing: colours of different devices become comparable.",
    ),
    "colour_profiles_ignored": (
        "warning",
        "Pictures carry a colour profile that is damaged, of another colour space or beside 16-bit colours. Colours "
        "are taken as they are stored.",
        "Export them as sRGB if other pictures of the cohort are.",
    ),
    "dicom_window": (
        "info",
        "DICOM files bring a window or look-up table of their own. It was applied.",
        "Check that it is the one by which the labels were given.",
    ),
    "dicom_window_ignored": (
        "warning",
        "DICOM files bring a window or look-up table that cannot be used. Their values are kept.",
        "Export them again, with a valid window.",
    ),
    "high_bit_depth": (
        "info",
        "Pictures have more than 8 bits a channel. One window maps them to 256 levels.",
        "See `preprocess.window` in the plan; set it if the values have a meaning of their own.",
    ),
    "mixed_bit_depth": (
        "warning",
        "Some pictures have more than 8 bits a channel, others 8. Only the former go through the window, so the two "
        "may differ in brightness.",
        "Export all in one way. If depth goes with the label, a model learns the depth.",
    ),
    "few_patients": (
        "warning",
        "A class has fewer than 30 patients. Its intervals will be wide.",
        "Collect more, or merge classes.",
    ),
}


def main() -> int:
    """Write the pages, or compare them with what lies there."""
    parser = argparse.ArgumentParser(description="Write docs/reference from the source.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 naming stale files")
    is_check = parser.parse_args().check
    stale = find_stale()
    if is_check:
        for name in stale:
            sys.stderr.write(f"docs/reference/{name} is stale: run `python docs/generate.py`\n")
        return 1 if stale else 0
    REFERENCE.mkdir(exist_ok=True)
    pages = render_pages()
    for name in stale:
        (REFERENCE / name).write_text(pages[name], encoding="utf-8", newline="\n")
        sys.stdout.write(f"docs/reference/{name} written\n")
    return 0


def render_pages() -> dict[str, str]:
    """File name → content of every generated page."""
    return {
        "cli.md": render_cli(),
        "recipe.md": render_recipe(),
        "recipes.md": render_recipes(),
        "errors.md": render_errors(),
        "issues.md": render_issues(),
        "api.md": render_api(),
    }


def find_stale() -> list[str]:
    """Names of the pages that differ from what would be written."""
    return [
        name
        for name, content in render_pages().items()
        if not (REFERENCE / name).is_file() or (REFERENCE / name).read_text(encoding="utf-8") != content
    ]


def render_cli() -> str:
    """Every command: what it does, its arguments and options, its examples."""
    parts = [_NOTE, _CLI_HEAD]
    for name, command in list_commands():
        parts.append(_render_command(name, command))
    return "\n".join(parts)


def list_commands() -> Iterator[tuple[str, Any]]:
    """`("cache info", command)` and so on, groups opened."""

    def walk(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from walk(command, f"{prefix}{name} ")
            else:
                yield f"{prefix}{name}", command

    return walk(typer.main.get_command(app), "")


def _render_command(name: str, command: Any) -> str:
    text = inspect.cleandoc(command.help or "")
    examples = re.findall(r"^Example: (.+)$", text, re.MULTILINE)
    meaning = re.sub(r"\n*^Example: .+$", "", text, flags=re.MULTILINE).strip()
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    options = [param for param in command.params if param.param_type_name == "option"]
    shown = [_show_argument(param) for param in arguments]
    parts = [f"## snellen {name}", "", meaning, "", "```text"]
    parts += [" ".join(["snellen", name, *shown, *(["[OPTIONS]"] if options else [])]), "```", ""]
    if arguments:
        parts += _table(
            ("argument", "meaning"),
            [(f"`{_show_argument(param)}`", _clean(param.help)) for param in arguments],
        )
    if options:
        rows = [(_show_option(param), _clean(param.help), _show_default(param)) for param in options]
        parts += _table(("option", "meaning", "default"), rows)
    if examples:
        parts += ["```sh", *examples, "```", ""]
    return "\n".join(parts)


def _show_argument(param: Any) -> str:
    name = param.name.upper() + ("..." if param.nargs == -1 else "")
    return name if param.required else f"[{name}]"


def _show_option(param: Any) -> str:
    names = ", ".join([*param.opts, *param.secondary_opts])
    if param.is_flag:
        return f"`{names}`"
    first = param.opts[0]
    return f"`{names} {_PLACEHOLDERS.get(first, first.lstrip('-').upper())}`"


def _show_default(param: Any) -> str:
    value = param.default
    if param.is_flag or not isinstance(value, str | int | float | Path) or value == "":
        return ""
    return f"`{value.as_posix() if isinstance(value, Path) else value}`"


def _clean(text: str | None) -> str:
    """Without the default that help texts carry in brackets for the terminal."""
    return re.sub(r"\[default: (.+?)\]", r"(default: \1)", " ".join((text or "").split()))


def render_recipe() -> str:
    """Every key of the Recipe model, table by table."""
    comments = read_comments(read_recipe_text("auto"))
    parts = [_NOTE, _RECIPE_HEAD]
    tables: list[tuple[str, str, list[tuple[str, FieldInfo]]]] = [("", "Top of the file", [])]
    for name, info in recipe.Recipe.model_fields.items():
        model = _find_model(info.annotation)
        if model is None:
            tables[0][2].append((name, info))
        else:
            tables += _list_tables(name, model)
    for path, title, fields in tables:
        parts.append(f"## {title}\n")
        rows = []
        for name, info in fields:
            key = f"{path}{name}"
            rows.append((f"`{name}`", describe_type(info), _show_value(info), _explain(key, comments)))
        parts.append("\n".join(_table(("key", "value", "default", "meaning"), rows)))
    parts.append(_render_layers())
    return "\n".join(parts)


def _list_tables(name: str, model: type[BaseModel]) -> list[tuple[str, str, list[tuple[str, FieldInfo]]]]:
    own, inner = [], []
    for key, info in model.model_fields.items():
        found = _find_model(info.annotation)
        if key == "stages":
            for place, (title, stage) in enumerate(_STAGES):
                inner.append((f"{name}.stages.{place}.", title, list(stage.model_fields.items())))
        elif found is None or key in ("head", "layers", "space", "pixel_space"):
            own.append((key, info))
        else:
            inner.append((f"{name}.{key}.N.", f"`[[{name}.{key}]]`", list(found.model_fields.items())))
    return [(f"{name}.", f"`[{name}]`", own), *inner]


def _find_model(annotation: Any) -> type[BaseModel] | None:
    """The record inside an annotation, if there is exactly one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = [model for argument in typing.get_args(annotation) if (model := _find_model(argument)) is not None]
    return found[0] if found else None


def read_comments(text: str) -> dict[str, str]:
    """Dotted key → the comment behind it in a recipe's TOML; tables of its one list of tables are counted from 0."""
    comments, table, tables = {}, "", 0
    for line in text.splitlines():
        if header := re.match(r"\[+([\w.]+)\]+", line):
            table = f"{header.group(1)}."
            if line.startswith("[["):
                table, tables = f"{table}{tables}.", tables + 1
        elif found := re.match(r'(\w+) = (?:"[^"]*"|\[[^\]]*\]|[^#"\[]+?)\s*#\s*(.+)$', line):
            comments[table + found.group(1)] = found.group(2).strip()
    return comments


def _explain(key: str, comments: dict[str, str]) -> str:
    meaning = comments.get(key) or _MEANINGS.get(key)
    if meaning is None:
        raise SystemExit(f"docs/generate.py: {key} has no comment in auto.toml and none in _MEANINGS")
    return meaning


def describe_type(info: FieldInfo) -> str:
    """What may stand for a value, in words."""
    return _describe(info.annotation, info.metadata)


def _describe(annotation: Any, limits: Sequence[Any] = ()) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _describe_annotated(arguments[0], arguments[1:], limits)
    if origin in (typing.Union, types.UnionType):
        said = dict.fromkeys(_describe(argument) for argument in arguments)
        return " or ".join(sorted(said, key=lambda text: text == '`"auto"`'))
    if origin is Literal:
        return ", ".join(f"`{_toml(value)}`" for value in arguments)
    if origin is tuple:
        number = "" if arguments[-1] is Ellipsis else f"{len(arguments)} "
        return f"list of {number}{_plural(_describe(arguments[0]))}"
    names = {bool: "`true`, `false`", int: "whole number", float: "number", str: "text", dict: "table"}
    return names[origin or annotation] + _describe_limits(limits)


def _describe_annotated(annotation: Any, extras: Sequence[Any], limits: Sequence[Any]) -> str:
    if any(isinstance(extra, FieldInfo) and extra.discriminator for extra in extras):
        return "layer"
    inner = [limit for extra in extras for limit in (extra.metadata if isinstance(extra, FieldInfo) else [extra])]
    return _describe(annotation, [*inner, *limits])


def _plural(text: str) -> str:
    return re.sub(r"^(number|whole number|layer)", r"\1s", text)


def _describe_limits(limits: Sequence[Any]) -> str:
    signs = (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
    said = [f"{sign} {getattr(limit, name):g}" for limit in limits for name, sign in signs if hasattr(limit, name)]
    return f" {', '.join(said)}" if said else ""


def _show_value(info: FieldInfo) -> str:
    if info.is_required():
        return "none"
    return f"`{_toml(info.default)}`"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple | list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return "{}" if value == {} else str(value)


def _render_layers() -> str:
    rows = []
    for layer in _LAYERS:
        name = str(layer.model_fields["type"].default)
        keys = [
            f"`{key}` ({describe_type(info)}, default {_show_value(info)})"
            for key, info in layer.model_fields.items()
            if key != "type"
        ]
        takes = _TAKES.get(name, "either")
        rows.append((f"`{name}`", takes, "; ".join(keys), " ".join((layer.__doc__ or "").split())))
    return "\n".join([_LAYERS_HEAD, *_table(("type", "takes", "keys", "meaning"), rows)])


def render_recipes() -> str:
    """The published systems: every feature of each with the key or the command that holds it."""
    parts = [_NOTE, _RECIPES_HEAD]
    for name, entry in read_recipe_features().items():
        lines = len(read_recipe_text(name).splitlines())
        parts += [f"## {name}\n", f"{entry['system']}. {lines} lines; `snellen recipes {name}` prints them.\n"]
        parts += ["```sh", entry["example"], "```", ""]
        rows = [(row["feature"], "; ".join(_tell_holders(row))) for row in entry["features"]]
        parts.append("\n".join(_table(("feature of the published system", "what holds it"), rows)))
    return "\n".join(parts)


def read_recipe_features() -> dict[str, Any]:
    """Recipe → system, example, features: docs/recipes.toml."""
    return tomllib.loads((Path(__file__).parent / "recipes.toml").read_text(encoding="utf-8"))


def _tell_holders(row: dict[str, Any]) -> Iterator[str]:
    for key, value in row.get("keys", {}).items():
        yield f"`{key} = {_inline(value)}`"
    if "setting" in row:
        yield f"`--set '{row['setting']}'`"
    if "command" in row:
        yield f"`{row['command']}`: {row['shows']}"


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_inline(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return _toml(value)


def render_errors() -> str:
    """The tree of exceptions with their codes."""
    rows = [(f"`{'    ' * depth}{kind.__name__}`", f"`{kind.code}`", _say(kind)) for depth, kind in walk_errors()]
    tree = [f"{'    ' * depth}{kind.__name__}" for depth, kind in walk_errors()]
    flat = [(name.replace(" ", ""), code, meaning) for name, code, meaning in rows]
    head = """# Errors

Every error that a user can act on is a `SnellenError`. It has `code` (stable, for programs), `message` (what is wrong
and where, with the offending value) and `hint` (what to do). The command line prints message and hint and ends with
exit code 2. Anything else that is raised is a defect of Snellen.
"""
    example = """```python
import snellen

try:
    model = snellen.load("bundle")
except snellen.BundleError as error:
    print(error.code, error.message, error.hint)
```
"""
    return "\n".join([_NOTE, head, "```text", *tree, "```", "", *_table(("error", "code", "meaning"), flat), example])


def walk_errors() -> Iterator[tuple[int, type[errors.SnellenError]]]:
    """(depth, class) of the tree, top down, in the order of the source."""

    def walk(kind: type[errors.SnellenError], depth: int) -> Iterator[tuple[int, type[errors.SnellenError]]]:
        yield depth, kind
        for inner in kind.__subclasses__():
            if inner.__module__ == errors.__name__:
                yield from walk(inner, depth + 1)

    return walk(errors.SnellenError, 0)


def _say(kind: type) -> str:
    return " ".join((kind.__doc__ or "").split("\n\n")[0].split())


def render_issues() -> str:
    """The table of the audit's issues, gravest first, and what each does."""
    order = ("severe", "warning", "info")
    listed = sorted(ISSUES.items(), key=lambda item: order.index(item[1][0]))
    rows = [(f"`{code}`", severity, meaning, advice) for code, (severity, meaning, advice) in listed]
    effects = [(f"`{code}`", *ISSUE_TEXTS[code]) for code, _ in listed if code in ISSUE_TEXTS]
    head = ("code", "what it does to results", "what Snellen does", "how to overrule")
    return "\n".join(
        [
            _NOTE,
            _ISSUES_HEAD,
            *_table(("code", "severity", "meaning", "what to do"), rows),
            _EFFECTS_HEAD,
            *_table(head, effects),
        ]
    )


def render_api() -> str:
    """The server's routes and the shapes of their answers, from its OpenAPI document."""
    from snellen.serve.app import describe_api

    document = describe_api()
    codes = [(status, ", ".join(f"`{code}`" for code in said.split(", ")), text) for status, said, text in _API_CODES]
    parts = [_NOTE, _API_HEAD, *_table(("status", "codes", "meaning"), codes)]
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            parts.append(_render_route(f"{method.upper()} {path}", route))
    parts.append("## Shapes\n")
    schemas = document["components"]["schemas"]
    for name in sorted(name for name in schemas if not name.startswith(("HTTPValidation", "ValidationError"))):
        parts.append(_render_shape(name, schemas[name]))
    return "\n".join(parts)


def _render_route(title: str, route: dict[str, Any]) -> str:
    parts = [f"## {title}", "", " ".join(route["description"].split()), ""]
    if parameters := route.get("parameters"):
        rows = [
            (f"`{item['name']}`", item["in"], _show_schema(item["schema"]), _say_parameter(item)) for item in parameters
        ]
        parts += _table(("parameter", "where", "value", "meaning"), rows)
    if "requestBody" in route:
        parts += ["Body: `multipart/form-data` with the field `images`, repeated.", ""]
    failed = sorted(status for status in route["responses"] if status[0] != "2")
    for status in sorted(set(route["responses"]) - set(failed)):
        kinds = route["responses"][status].get("content", {})
        shapes = [_show_schema(kind["schema"]) if kind.get("schema") else f"`{name}`" for name, kind in kinds.items()]
        parts.append(f"Answer {status}: {' or '.join(shapes) or 'nothing'}. Errors: {', '.join(failed) or 'none'}.\n")
    return "\n".join(parts)


def _say_parameter(parameter: dict[str, Any]) -> str:
    said = parameter.get("description") or parameter["schema"].get("description") or ""
    default = parameter["schema"].get("default")
    return said if default is None else f"{said} (default: `{default}`)".strip()


def _render_shape(name: str, schema: dict[str, Any]) -> str:
    rows = [
        (f"`{key}`", _show_schema(value), value.get("description", "")) for key, value in schema["properties"].items()
    ]
    about = " ".join(schema.get("description", "").split())
    return "\n".join([f"### {name}", "", about, "", *_table(("field", "value", "meaning"), rows)])


def _show_schema(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return f"`{schema['$ref'].rpartition('/')[2]}`"
    if "anyOf" in schema:
        return " or ".join(_show_schema(inner) for inner in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_show_schema(schema['items'])}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_show_schema(schema['additionalProperties'])}"
    return str(schema.get("format") or schema.get("type", "anything"))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return [*lines, ""]


if __name__ == "__main__":
    sys.exit(main())
