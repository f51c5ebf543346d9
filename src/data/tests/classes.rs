//! Classes of images: from folders, splits, shards, label files and arrays.

use super::images::{COLOUR, GREY, ImageDir, numbered, png};
use super::{IdxFolder, ImageSet, assert_refused, compressed, idx, images};
use crate::data::Source;
use crate::progress::Console;

/// A folder of images with `per_folder` images in each of the folders `names`.
fn folders(names: &[&str], per_folder: usize) -> ImageDir {
    let dir = ImageDir::empty();
    for (f, name) in names.iter().enumerate() {
        for i in 0..per_folder {
            dir.write(&format!("{name}/{f}-{i}.png"), &png(&numbered((10 * f + i) as u8)));
        }
    }
    dir
}

fn names_and_labels(set: &ImageSet) -> (Vec<&str>, Vec<u8>) {
    (set.label_names.iter().map(String::as_str).collect(), set.labels.clone().unwrap_or_default())
}

#[test]
fn numeric_names_are_classes_in_numeric_order() {
    let names: Vec<_> = (0..12).map(|i| i.to_string()).collect();
    let set = folders(&names.iter().map(String::as_str).collect::<Vec<_>>(), 2).open(COLOUR).unwrap();
    assert_eq!(set.label_names, names);
    let set = folders(&["10", "-2", "007", "8"], 4).open(COLOUR).unwrap();
    assert_eq!(set.label_names, ["-2", "007", "8", "10"]);
    // With one name that is not a number, the order is alphabetical.
    let set = folders(&["10", "9", "x"], 6).open(COLOUR).unwrap();
    assert_eq!(set.label_names, ["10", "9", "x"]);
}

#[test]
fn the_training_split_is_used_and_the_other_splits_are_reported() {
    for (training, testing) in [("train", "test"), ("training", "testing"), ("Train", "Val"), ("train2017", "val2017")]
    {
        let dir = ImageDir::empty();
        for class in ["cats", "dogs"] {
            for i in 0..8 {
                dir.write(&format!("{training}/{class}/{i}.png"), &png(&numbered(i)));
                dir.write(&format!("{testing}/{class}/{i}.png"), &png(&numbered(100 + i)));
            }
        }
        let set = dir.open(COLOUR).unwrap();
        assert_eq!((set.count(), set.label_names.as_slice()), (16, &["cats".to_string(), "dogs".to_string()][..]));
        assert!((0..16).all(|i| set.image(i)[0] < 100), "{training}: images of the other split");
        let remarks = dir.remarks(COLOUR);
        assert!(remarks.contains("are splits") && remarks.contains(&format!("{testing}/ (16 images)")), "{remarks}");
    }
}

#[test]
fn splits_are_not_classes() {
    let dir = folders(&["train", "test", "valid"], 16);
    let set = dir.open(COLOUR).unwrap();
    assert_eq!((set.count(), set.labels), (16, None));
    // Without a training split, all images are used.
    let dir = folders(&["test", "val"], 10);
    let set = dir.open(COLOUR).unwrap();
    assert_eq!((set.count(), set.labels), (20, None));
    assert!(dir.remarks(COLOUR).contains("all are used"), "{}", dir.remarks(COLOUR));
}

#[test]
fn splits_inside_class_folders_are_not_classes() {
    let dir = folders(&["cats/train", "cats/test", "dogs/train", "dogs/test"], 10);
    let set = dir.open(COLOUR).unwrap();
    assert_eq!((set.count(), set.label_names.len()), (20, 2));
}

#[test]
fn domains_of_cyclegan_are_classes_of_the_training_split() {
    let set = folders(&["trainA", "trainB", "testA", "testB"], 9).open(COLOUR).unwrap();
    assert_eq!((set.count(), set.label_names.as_slice()), (18, &["A".to_string(), "B".to_string()][..]));
}

#[test]
fn a_folder_named_like_a_split_beside_other_classes_is_a_class() {
    let set = folders(&["train", "bus", "car"], 6).open(COLOUR).unwrap();
    assert_eq!(set.label_names, ["bus", "car", "train"]);
}

#[test]
fn classes_are_found_inside_a_common_folder() {
    let set = folders(&["images/all/cats", "images/all/dogs"], 9).open(COLOUR).unwrap();
    assert_eq!(set.label_names, ["cats", "dogs"]);
}

#[test]
fn shards_are_not_classes_and_are_reported() {
    for names in [["00000", "00001", "00002"], ["shard-0", "shard-1", "shard-2"], ["part_1", "part_2", "part_10"]] {
        let dir = folders(&names, 6);
        assert_eq!(dir.open(COLOUR).unwrap().labels, None, "{names:?}");
        assert!(dir.remarks(COLOUR).contains("look like shards"), "{}", dir.remarks(COLOUR));
    }
    // Numbered folders whose files have the same names in each are classes, as in GTSRB.
    let dir = ImageDir::empty();
    for class in ["00000", "00001"] {
        (0..9).for_each(|i| dir.write(&format!("{class}/{i:05}.png"), &png(&numbered(i))));
    }
    assert_eq!(dir.open(COLOUR).unwrap().label_names, ["00000", "00001"]);
}

#[test]
fn a_dataset_json_has_the_labels_and_its_folders_are_shards() {
    let dir = folders(&["00000", "00001"], 8);
    let labels: Vec<_> =
        (0..16).map(|i| format!(r#"["{:05}/{}-{}.png", {}]"#, i / 8, i / 8, i % 8, [3, 12][i % 2])).collect();
    dir.write("dataset.json", format!(r#"{{"labels": [{}]}}"#, labels.join(", ")).as_bytes());
    let set = dir.open(COLOUR).unwrap();
    assert_eq!(names_and_labels(&set), (vec!["3", "12"], (0..16).map(|i| i % 2).collect()));

    dir.write("dataset.json", br#"{"labels": null}"#);
    assert_eq!(dir.open(COLOUR).unwrap().labels, None);
    assert!(dir.remarks(COLOUR).contains("shards of a dataset.json"), "{}", dir.remarks(COLOUR));

    dir.write("dataset.json", br#"{"labels": [["00000/0-0.png", 1]]}"#);
    assert_eq!(dir.open(COLOUR).unwrap().labels, None);
    let remarks = dir.remarks(COLOUR);
    assert!(remarks.contains("has labels for 1 of 16 images") && remarks.contains("shards"), "{remarks}");

    dir.write("dataset.json", b"{\"labels\": [[[[");
    assert!(dir.remarks(COLOUR).contains("dataset.json cannot be read"), "{}", dir.remarks(COLOUR));
}

#[test]
fn a_csv_file_has_the_labels() {
    let table = |header: &str, separator: char, name: &dyn Fn(usize) -> String| {
        let rows = (0..20).map(|i| format!("{}{separator}{}", name(i), ["tabby cat", "Größe, XL", "日本"][i % 3]));
        let quoted = rows.map(|row| row.replace("Größe, XL", "\"Größe, XL\""));
        format!("{header}{}\r\n", quoted.collect::<Vec<_>>().join("\r\n"))
    };
    let tables = [
        table("file,label\r\n", ',', &|i| format!("{i:02}.png")),
        table("", ';', &|i| format!("{i:02}.png")),
        table("\u{feff}filename\tclass\r\n", '\t', &|i| format!("./{i:02}.png")),
        table("id,label\n", ',', &|i| format!("{i:02}")),
    ];
    for text in tables {
        let dir = ImageDir::new();
        dir.write("labels.csv", text.as_bytes());
        let set = dir.open(COLOUR).unwrap();
        assert_eq!(set.label_names, ["Größe, XL", "tabby cat", "日本"], "{text}");
        assert_eq!(set.labels.unwrap()[..6], [1, 0, 2, 1, 0, 2], "{text}");
        assert!(dir.remarks(COLOUR).contains("classes are the labels of labels.csv"));
    }
}

#[test]
fn a_given_label_file_is_used_or_refused() {
    let dir = ImageDir::new();
    let elsewhere = ImageDir::empty();
    let rows: Vec<_> = (0..20).map(|i| format!("{i:02}.png,{}", i / 10)).collect();
    elsewhere.write("classes.csv", format!("image,target\n{}\n", rows.join("\n")).as_bytes());
    let source = |name: &str| Source { labels: elsewhere.path(name).to_str().map(Into::into), ..dir.source() };
    let open = |name: &str| super::super::open(&source(name), COLOUR, None, &Console::silent());
    assert_eq!(names_and_labels(&open("classes.csv").unwrap()).0, ["0", "1"]);
    elsewhere.write("other.csv", b"file,label\nnot-there.png,1\n");
    assert_refused(open("other.csv"), &["names none of the images"]);
    elsewhere.write("one.csv", b"file\n00.png\n");
    assert_refused(open("one.csv"), &["no labels that can be read"]);
    assert!(open("nowhere.csv").is_err());
}

#[test]
fn a_run_keeps_its_order_of_classes() {
    let set = folders(&["0", "2", "10"], 6).open(COLOUR).unwrap();
    let old = ["0", "10", "2"].map(String::from);
    let ordered = set.clone().in_class_order(&old);
    assert_eq!(names_and_labels(&ordered).0, ["0", "10", "2"]);
    // In path order, the second folder is `10`.
    let labels = |set: &ImageSet| [0, 6, 17].map(|i| set.labels.as_ref().unwrap()[i]);
    assert_eq!((labels(&set), labels(&ordered)), ([0, 2, 1], [0, 1, 2]));
    assert_eq!(set.clone().in_class_order(&["0", "10", "x"].map(String::from)), set);
    assert_eq!(set.clone().in_class_order(&[]), set);
}

#[test]
fn classes_with_few_images_are_reported() {
    let dir = folders(&["many", "few"], 16);
    (3..16).for_each(|i| std::fs::remove_file(dir.path(&format!("few/1-{i}.png"))).unwrap());
    let remarks = dir.remarks(COLOUR);
    assert!(remarks.contains("1 of 2 classes has fewer than 10 images: few (3)"), "{remarks}");
    (0..3).for_each(|i| dir.write(&format!("few/1-{i}.png"), b"broken"));
    dir.write("third/a.png", &png(&numbered(1)));
    let remarks = dir.remarks(COLOUR);
    assert!(remarks.contains("the class few has no usable image"), "{remarks}");
}

/// macOS stores accents decomposed, Linux as they were typed.
#[cfg(unix)]
#[test]
fn both_forms_of_an_accent_are_the_same_class_in_the_same_order() {
    let composed = folders(&["z\u{e9}bre", "zebu", "\u{e9}tale"], 6).open(COLOUR).unwrap();
    let decomposed = folders(&["ze\u{301}bre", "zebu", "e\u{301}tale"], 6).open(COLOUR).unwrap();
    assert_eq!(composed.label_names, decomposed.label_names);
    assert_eq!(composed.labels, decomposed.labels);
    assert_eq!(composed.fingerprint(), decomposed.fingerprint());
}

#[cfg(unix)]
#[test]
fn names_that_are_not_utf8_are_read() {
    use std::os::unix::ffi::OsStrExt;
    let dir = ImageDir::new();
    let folder = dir.folder.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join(std::ffi::OsStr::from_bytes(b"\xff.png")), png(&numbered(99))).unwrap();
    assert_eq!(dir.open(COLOUR).unwrap().count(), 21);
}

#[test]
fn labels_with_gaps_are_classes_by_their_numbers() {
    let open = |numbers: &[u8]| {
        let labels = idx([0, 0, 8, 1], &[3], numbers);
        IdxFolder::with(&[(super::IMAGE_FILE, &images()), (super::LABEL_FILE, &labels)]).open().unwrap()
    };
    assert_eq!(names_and_labels(&open(&[1, 26, 3])), (vec!["1", "3", "26"], vec![0, 2, 1]));
    assert_eq!(open(&[1, 26, 3]).classes(), Some(3));
    assert_eq!(names_and_labels(&open(&[0, 2, 1])), (vec![], vec![0, 2, 1]));
}

#[test]
fn labels_are_integers_of_any_type_in_the_first_column() {
    let elements = |values: &[i64], bytes: usize| -> Vec<u8> {
        values.iter().flat_map(|value| value.to_be_bytes()[8 - bytes..].to_vec()).collect()
    };
    let cases = [
        ("train-labels-idx1-ubyte", idx([0, 0, 0x08, 1], &[3], &elements(&[4, 2, 4], 1))),
        ("train-labels-idx1-byte", idx([0, 0, 0x09, 1], &[3], &elements(&[4, 2, 4], 1))),
        ("train-labels-idx1-short", idx([0, 0, 0x0b, 1], &[3], &elements(&[4, 2, 4], 2))),
        ("train-labels-idx1-int.gz", compressed(&idx([0, 0, 0x0c, 1], &[3], &elements(&[4, 2, 4], 4)))),
        ("train-labels-idx2-int.gz", compressed(&idx([0, 0, 0x0c, 2], &[3, 2], &elements(&[4, 9, 2, 8, 4, 7], 4)))),
    ];
    for (name, bytes) in cases {
        let set = IdxFolder::with(&[(super::IMAGE_FILE, &images()), (name, &bytes)]).open().unwrap();
        assert_eq!(names_and_labels(&set), (vec!["2", "4"], vec![1, 0, 1]), "{name}");
    }
    let floats = idx([0, 0, 0x0d, 1], &[3], &[0; 12]);
    let folder = IdxFolder::with(&[(super::IMAGE_FILE, &images()), (super::LABEL_FILE, &floats)]);
    assert!(assert_refused(folder.open(), &["not an IDX file of labels"]).hint().contains("whole numbers"));
    let wide = idx([0, 0, 0x0c, 2], &[3, u32::MAX], &[0; 12]);
    let folder = IdxFolder::with(&[(super::IMAGE_FILE, &images()), (super::LABEL_FILE, &wide)]);
    assert_refused(folder.open(), &["4294967295 columns"]);
}

#[test]
fn more_than_256_classes_are_ignored_with_a_remark() {
    let rows: Vec<_> = (0..300).map(|i| format!("{i}.png,{i}")).collect();
    let dir = ImageDir::empty();
    (0..300).for_each(|i| dir.write(&format!("{i}.png"), &png(&numbered((i % 256) as u8))));
    dir.write("labels.csv", rows.join("\n").as_bytes());
    assert_eq!(dir.open(GREY).unwrap().labels, None);
    assert!(dir.remarks(GREY).contains("300 classes exceed the limit of 256"), "{}", dir.remarks(GREY));
}
