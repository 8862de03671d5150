"""What each issue does to results, what Snellen does about it, and how to have it otherwise: texts by code."""

from __future__ import annotations

# effect, action, overrule
Texts = tuple[str, str, str]

_NONE = "Nothing to overrule."
_REPEAT = "Mend the files and repeat the step; there is no option to use them as they are."
_LESS: Texts = (
    "They are in no number. Where they are many, or mostly of one class, what is measured is no longer the cohort "
    "that was meant.",
    "Sets them aside, counts them in every report, deletes nothing.",
    _REPEAT,
)
_PASSED: Texts = (
    "What lies there is in no number. Where it belongs to the data, patients or a whole source are missing.",
    "Leaves it where it is and reads the rest.",
    "Move it to where the data are, or give another DATA.",
)
_HARMLESS: Texts = ("None.", "Reads the data as the message says.", _NONE)
_CLASSES: Texts = (
    "The model would learn classes that are none, or that are one; every number is of those classes.",
    "Keeps the classes as they are written.",
    'Rename them, or join them: `snellen train DATA --set \'data.merge={all = ["A", "B"]}\'`.',
)
_LABELS: Texts = (
    "Contradicting labels are noise: no model can be right on both, and the numbers have a ceiling below 1.",
    "Keeps both labels and keeps the pictures together in one part.",
    "Correct the labels, or take the pictures out.",
)
_LEAK: Texts = (
    "Patients in training and test at once: every number is too good, and the intervals are too narrow.",
    "Takes the patients as it was told, and says so in every report.",
    "--patients REGEX or --patients none; of a table or array also --columns patient=NAME.",
)
_KEPT_APART: Texts = (
    "None on the numbers of Snellen. With the data's own splits as they are, test numbers would be too good.",
    "Keeps the pictures in test before val before train; `snellen train` leaves the others out, listed in its "
    "splits.csv.",
    "Correct the splits of the data.",
)
_LOOKED_AT: Texts = (
    "The model can only guess there, or learns what such pictures have in common; where they are mostly of one class, "
    "it learns that.",
    "Keeps them: only a person can say whether they belong to the data.",
    "Take them out of the data, then repeat the step.",
)
_SHORTCUT: Texts = (
    "A model may name the source instead of the disease: its numbers hold for these sources and for no clinic.",
    "Trains and measures as asked; the report sets the shortcut's AUC beside the model's.",
    "Remove what differs and repeat the audit, or give each source as DATA of its own.",
)
_READ_OTHERWISE: Texts = (
    "Pictures may look otherwise to the model than to whoever graded them.",
    "Reads them as the message says, in training and prediction alike.",
    "Export them again in the way that is meant.",
)

ISSUE_TEXTS: dict[str, Texts] = {
    "conflicting_rows": (
        "One of the two labels is wrong. Where the first is, the model learns it and the numbers count it.",
        "Keeps the picture once, with the label of its first row, and sets the other rows aside.",
        "Correct the table.",
    ),
    "conflicting_copies": _LABELS,
    "splits_cannot_be_filled": (
        "There would be no number for the class.",
        "`snellen train` refuses.",
        "Merge or remove the class, tell the patients, or set data.fractions.",
    ),
    "class_lost": (
        "The model will not know the class, and calls its patients something else.",
        "Goes on with the other classes.",
        _REPEAT,
    ),
    "folders_hold_same_folders": _CLASSES,
    "class_names_alike": _CLASSES,
    "class_names_vague": _CLASSES,
    "labels_joined": _CLASSES,
    "damaged_packed_picture": ("Training would stop.", "`train` refuses the file.", _REPEAT),
    "shortcut_facts": _SHORTCUT,
    "shortcut_border": _SHORTCUT,
    "file_size_tells_class": (
        "None, where files differ in size because pictures do. Else as with any shortcut: the source is learned.",
        "Sets the AUC beside the model's in the report.",
        _NONE,
    ),
    "names_tell_class": (
        "None by itself: no model sees names. Where the names stand for places, the model learns the place.",
        "Trains and measures as asked.",
        _NONE,
    ),
    "colours_tell_class": (
        "None, where the disease changes colours. Else the model learns the camera or its settings.",
        "Varies brightness and contrast in training by the plan's augmentation.",
        "`snellen train DATA --set augment.brightness=0.2 --set augment.contrast=0.2`.",
    ),
    "shortcuts_left_out": (
        "A shortcut may be there and is not told.",
        "Goes on without the check.",
        "Install what is missing, or give more patients.",
    ),
    "likely_wrong_labels": (
        "Wrong labels in training blur the classes; in test they lower every number, whatever the model does.",
        "Changes no label and leaves no picture out.",
        "Correct the labels in the data and repeat the step.",
    ),
    "labels_left_out": (
        "Wrong labels, outliers and patients who are one may be there and are not told.",
        "Goes on without the check.",
        "Install what is missing; with --quick they are left out on purpose.",
    ),
    "patients_look_alike": _LEAK,
    "patients_unknown": (
        "Where such pictures are of one person, the person is in training and test at once: numbers are too good, and "
        "intervals too narrow. The more pictures, the more so.",
        "Takes each of them for a patient of its own, and says so in every report.",
        "--patients REGEX; of a table or array also --columns patient=NAME.",
    ),
    "patients_alike": _LEAK,
    "patients_inferred": (
        "None, if the rule is right. If not, patients are in training and test at once, and every number is too good.",
        "Takes the patients as the rule tells them, and says so in every report.",
        "--patients REGEX or --patients none; of a table or array also --columns patient=NAME.",
    ),
    "patients_of_several_classes": (
        "Different patients counted as one make training and test smaller, never too good; one patient with several "
        "labels is harder to learn.",
        "Keeps their pictures together.",
        "--patients REGEX; of a table or array also --columns patient=NAME.",
    ),
    "patients_labelled_differently": (
        "None where the patient does show both. Else one of the labels is wrong, and wrong labels blur the classes.",
        "Keeps both labels and keeps the patient's pictures together in one part.",
        "Correct the labels, or take the pictures out.",
    ),
    "patients_in_several_splits": _KEPT_APART,
    "copies_in_several_splits": _KEPT_APART,
    "exact_duplicates": (
        "None: a copy is never learned from in one part and tested in another. Copies count several times.",
        "Keeps all copies of a picture in one part.",
        "Take the copies out.",
    ),
    "transformed_copies": (
        "None where they are kept together. Else a copy may be learned from in one part and tested in another: every "
        "number is too good. Copies count several times, which makes intervals too narrow.",
        "Keeps the copies of a picture in one part and one fold; above 4,000 pictures only with data.copies=all.",
        "`snellen train DATA --set data.copies=exact` (here: `--copies exact`) keeps identical pictures together only.",
    ),
    "copies_not_searched": (
        "Copies may lie in training and test at once: numbers may be too good.",
        "Looks for no more than was asked.",
        "`snellen train DATA --set data.copies=all`.",
    ),
    "few_patients": (
        "The numbers of the class are uncertain, and so are means over classes.",
        "Trains, and shows the intervals.",
        "Merge classes with data.merge, or train with --folds, which tests every patient once.",
    ),
    "unreadable_picture": _LESS,
    "missing_picture": _LESS,
    "ambiguous_picture": _LESS,
    "empty_label": _LESS,
    "no_class_marked": _LESS,
    "table_without_labels": _LESS,
    "ragged_row": _LESS,
    "picture_without_class": (
        *_LESS[:2],
        "Move them into the folder of their class, or give a table of labels as DATA.",
    ),
    "special_file": _LESS,
    "damaged_entry": _LESS,
    "too_many_frames": _LESS,
    "unreadable_name": _LESS,
    "unreadable_folder": _PASSED,
    "unreadable_class": (
        "The class is in no number, and a model trained so never names it.",
        "Reads the rest.",
        "Give the permission to read, and repeat the step.",
    ),
    "picture_not_in_table": _PASSED,
    "folder_chosen": _PASSED,
    "folder_without_pictures": _PASSED,
    "folder_not_used": _PASSED,
    "folders_not_used": _PASSED,
    "table_not_used": _PASSED,
    "archive_not_opened": _PASSED,
    "circular_link": _PASSED,
    "file_not_used": _PASSED,
    "dicomdir_not_used": _PASSED,
    "hdf5_links_not_used": _PASSED,
    "classes_differ_between_splits": (
        "A class that test lacks has no number; one that training lacks is never named.",
        "Keeps the data's splits.",
        "Give the data without splits to have them drawn by patient.",
    ),
    "split_not_used": (
        "None: the splits are drawn by patient instead.",
        "Draws train, val and test.",
        "--columns split=NAME, with values train, val and test.",
    ),
    "split_untold": (
        "They are in no number.",
        "`snellen train` leaves them out, listed in its splits.csv.",
        "Write their split, or give the data without splits.",
    ),
    "split_missing": ("None.", "Cuts the part from train, by patient.", "Give the part as a folder or in the table."),
    "blank_pictures": (
        "The model would learn that an empty picture means its class.",
        "Keeps them in the cohort; `predict` does not answer on such.",
        "Take them out of the data, then repeat the step.",
    ),
    "blurred_pictures": _LOOKED_AT,
    "overexposed_pictures": _LOOKED_AT,
    "underexposed_pictures": _LOOKED_AT,
    "tiny_pictures": _LOOKED_AT,
    "odd_colour_pictures": _LOOKED_AT,
    "cut_off_pictures": _LOOKED_AT,
    "outlying_pictures": _LOOKED_AT,
    "text_in_pictures": (
        "Names or dates in pictures tell patients to everybody who sees a report, and a text that goes with one class "
        "is a shortcut.",
        "Keeps them, and shows them in its pages.",
        "Paint over or crop the text, then repeat the step.",
    ),
    "colour_profiles": _HARMLESS,
    "colour_profiles_ignored": _READ_OTHERWISE,
    "dicom_window": _READ_OTHERWISE,
    "dicom_window_ignored": _READ_OTHERWISE,
    "animated_pictures": _READ_OTHERWISE,
    "multi_page_pictures": _READ_OTHERWISE,
    "transparent_pictures": _READ_OTHERWISE,
    "high_bit_depth": (
        "Details outside the window are lost, details inside it are kept.",
        "Maps all by one window, measured on training pictures, in prediction too.",
        "`snellen train DATA --set 'preprocess.window=[LOW, HIGH]'`.",
    ),
    "mixed_bit_depth": (
        "The two kinds may differ in brightness; where depth goes with the class, the model learns the depth.",
        "Maps only the deeper ones by the window.",
        "Export all in one way.",
    ),
    "packed_data": _HARMLESS,
    "multi_frame_files": _HARMLESS,
    "class_names_normalised": _HARMLESS,
    "labels_as_integers": _HARMLESS,
    "patients_as_integers": _HARMLESS,
    "table_encoding": _HARMLESS,
    "picture_matched_loosely": _HARMLESS,
    "repeated_row": _HARMLESS,
}

# which of two issues of equal severity is told first; what is not named comes after
GRAVEST = (
    "splits_cannot_be_filled", "class_lost", "shortcut_facts", "conflicting_copies", "conflicting_rows",
    "patients_unknown", "patients_look_alike", "likely_wrong_labels", "shortcut_border", "text_in_pictures",
    "unreadable_picture", "missing_picture", "blank_pictures", "outlying_pictures", "few_patients",
)  # fmt: skip


def explain_code(code: str) -> dict[str, str]:
    """`effect`, `action` and `overrule` of an issue; nothing for a code that is not known here."""
    if code not in ISSUE_TEXTS:
        return {}
    effect, action, overrule = ISSUE_TEXTS[code]
    return {"effect": effect, "action": action, "overrule": overrule}


def rank_code(code: str) -> int:
    """The place among issues of equal severity, 0 the gravest."""
    return GRAVEST.index(code) if code in GRAVEST else len(GRAVEST)
