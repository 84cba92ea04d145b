//! CIFAR-10's layout for Python, and pictures in folders.

use std::fs;
use std::path::{Path, PathBuf};

use cifar_lab::dataset::{CIFAR10_CLASSES, Cifar10, Dataset, DatasetError, ImageFolder};
use cifar_lab::image::{Rgb, RgbImage};
use cifar_lab::picture::PictureError;
use tempfile::TempDir;

/// A batch of 4 pictures as Python 2 and NumPy 1 pickled the published ones; `make_fixtures.py` beside it made it.
fn batch() -> Vec<u8> {
    batch_called("data_batch")
}

fn batch_called(name: &str) -> Vec<u8> {
    fs::read(format!("{}/../pth/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn write_python_folder(folder: &Path) -> Vec<PathBuf> {
    let names = ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"];
    let files = names.map(|name| folder.join(name)).to_vec();
    files.iter().for_each(|file| fs::write(file, batch()).unwrap());
    files
}

#[test]
fn the_layout_for_python_is_read() {
    let folder = TempDir::new().unwrap();
    let inner = folder.path().join("cifar-10-batches-py");
    fs::create_dir(&inner).unwrap();
    write_python_folder(&inner);
    for folder in [folder.path(), &*inner] {
        let data = Cifar10::from_folder(folder).unwrap();
        assert_eq!((data.train.len(), data.test.len()), (20, 4));
        assert_eq!(data.test.labels(), [6, 9, 9, 4]);
        // Byte i of the batch is 7 i + 3, says its script.
        let expected: Vec<u8> = (3072..2 * 3072).map(|index| ((7 * index + 3) % 256) as u8).collect();
        assert_eq!(data.train.pixels(17).unwrap(), expected);
        assert_eq!(data.train.class_names(), CIFAR10_CLASSES);
        assert_eq!(data.test.name(), "CIFAR-10");
    }
}

#[test]
fn batches_that_python_3_pickled_again_are_read() {
    let folder = TempDir::new().unwrap();
    let files = write_python_folder(folder.path());
    let published = Cifar10::from_folder(folder.path()).unwrap();
    // Bytes as calls, NumPy's numbers for labels, and since protocol 5 another form of array.
    for name in ["data_batch_protocol2", "data_batch_protocol5"] {
        files.iter().for_each(|file| fs::write(file, batch_called(name)).unwrap());
        let data = Cifar10::from_folder(folder.path()).unwrap();
        assert_eq!(data.train.labels(), published.train.labels(), "{name}");
        assert_eq!(data.train.pixels(17).unwrap(), published.train.pixels(17).unwrap(), "{name}");
    }
}

#[test]
fn a_wrong_batch_is_named_and_nothing_in_it_is_executed() {
    let folder = TempDir::new().unwrap();
    let files = write_python_folder(folder.path());
    let error = |bytes: &[u8]| {
        fs::write(&files[3], bytes).unwrap();
        let error = Cifar10::from_folder(folder.path()).unwrap_err();
        assert!(error.to_string().contains("data_batch_4"), "{error}");
        error.to_string()
    };
    let whole = batch();
    assert!(error(&whole[..whole.len() / 2]).contains("truncated"));
    assert!(error(b"").contains("empty"));
    assert!(error(b"\x80\x02}.").contains("without \"data\""));
    assert!(error(b"\x80\x02cos\nsystem\nU\x02ls\x85R.").contains("os.system"));
    // A label of 10, and one label less than there are pictures.
    let labels = whole.windows(8).position(|window| window == b"K\x06K\x09K\x09K\x04").unwrap();
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        bytes
    };
    assert!(error(&with(&|bytes| bytes[labels + 3] = 10)).contains("record 1 is 10"));
    assert!(error(&with(&|bytes| drop(bytes.drain(labels..labels + 2)))).contains("[4, 3072]"));
    fs::remove_file(&files[3]).unwrap();
    assert!(matches!(Cifar10::from_folder(folder.path()), Err(DatasetError::MissingFile(path)) if path == files[3]));
}

/// One picture of each class and split, all of one color that is told by both.
fn write_pictures(folder: &Path, classes: &[&str]) {
    for (split, green) in [("train", 50), ("test", 200)] {
        for (label, class) in classes.iter().enumerate() {
            let folder = folder.join(split).join(class);
            fs::create_dir_all(&folder).unwrap();
            let picture = RgbImage::from_pixel(32, 32, Rgb([20 * label as u8, green, 7]));
            picture.save(folder.join("a.png")).unwrap();
        }
    }
}

/// Label and the first pixel's red of each picture.
fn labels_and_reds(data: &Dataset) -> Vec<(u32, u8)> {
    data.labels().into_iter().enumerate().map(|(index, label)| (label, data.pixels(index).unwrap()[0])).collect()
}

#[test]
fn folders_are_classes_in_the_order_of_their_names() {
    let folder = TempDir::new().unwrap();
    write_pictures(folder.path(), &["ape", "bee", "cow"]);
    // More of one class: the others' come first in turn. Of another size, and another format.
    let bees = folder.path().join("train/bee");
    RgbImage::from_pixel(90, 40, Rgb([21, 50, 7])).save(bees.join("b.PNG")).unwrap();
    RgbImage::from_pixel(7, 9, Rgb([22, 50, 7])).save(bees.join("c.jpg")).unwrap();
    fs::write(bees.join("notes.txt"), "left out").unwrap();
    fs::write(bees.join(".hidden.png"), "left out").unwrap();
    fs::create_dir(folder.path().join("train/.hidden")).unwrap();
    fs::remove_dir_all(folder.path().join("test/cow")).unwrap();
    let data = ImageFolder::open(folder.path()).unwrap();
    assert_eq!(data.train.class_names(), ["ape", "bee", "cow"]);
    let [first, second, third, fourth, (label, red)] = labels_and_reds(&data.train)[..] else { panic!("not 5") };
    assert_eq!([first, second, third, fourth], [(0, 0), (1, 20), (2, 40), (1, 21)]);
    // JPEG rounds.
    assert!(label == 1 && red.abs_diff(22) <= 2, "{red}");
    assert_eq!(labels_and_reds(&data.test), [(0, 0), (1, 20)]);
    assert_eq!(data.test.pixels(1).unwrap()[1024], 200);
    assert_eq!(data.train.name(), folder.path().file_name().unwrap().to_str().unwrap());
    // As CIFAR-10 it is refused: nobody should take its numbers for CIFAR-10's.
    let error = Cifar10::from_folder(folder.path()).unwrap_err();
    assert!(matches!(error, DatasetError::OtherClasses { .. }) && error.to_string().contains("ape, bee, cow"));
}

/// The first pixel's red of each picture of a class, in their order.
fn reds_of(data: &Dataset, class: &str) -> Vec<u8> {
    let class = data.class_names().iter().position(|name| name == class).unwrap() as u32;
    labels_and_reds(data).into_iter().filter(|&(label, _)| label == class).map(|(_, red)| red).collect()
}

/// A picture of 32×32 whose red is `red`, in folders that are made where they are missing.
fn write_picture(path: &Path, red: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    RgbImage::from_pixel(32, 32, Rgb([red, 0, 0])).save(path).unwrap();
}

#[test]
fn pictures_in_folders_inside_a_class_s_are_found_in_torchvision_s_order() {
    let folder = TempDir::new().unwrap();
    write_pictures(folder.path(), &["bee"]);
    // torchvision sorts the folders' paths as text: cat, cat/a, cat/a.b, cat/a/0, cat/b.
    let files = ["0.png", "z.png", "a/1.png", "a/10.png", "a/2.png", "a.b/0.png", "a/0/x.png", "b/images/0.png"];
    for (index, file) in files.iter().enumerate() {
        write_picture(&folder.path().join("train/cat").join(file), 100 + index as u8);
    }
    write_picture(&folder.path().join("train/cat/.hidden/0.png"), 1);
    write_picture(&folder.path().join("train/cat/a/._0.png"), 1);
    // Beside the classes, as torchvision leaves it out.
    write_picture(&folder.path().join("train/0.png"), 1);
    // A folder that is called like a picture.
    write_picture(&folder.path().join("train/cat/c.png/0.png"), 108);
    let data = ImageFolder::open(folder.path()).unwrap();
    assert_eq!(data.train.class_names(), ["bee", "cat"]);
    assert_eq!(reds_of(&data.train, "cat"), (100..109).collect::<Vec<u8>>());
    assert_eq!(data.train.labels()[..3], [0, 1, 1]);
}

#[test]
fn numbers_as_class_names_are_in_the_order_of_text() {
    let folder = TempDir::new().unwrap();
    write_pictures(folder.path(), &["2", "10", "1", "Z", "a"]);
    assert_eq!(ImageFolder::open(folder.path()).unwrap().train.class_names(), ["1", "10", "2", "Z", "a"]);
}

#[cfg(unix)]
#[test]
fn links_are_followed_but_not_upwards() {
    use std::os::unix::fs::symlink;
    let (folder, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    write_pictures(folder.path(), &["ape", "bee"]);
    let ape = folder.path().join("train/ape");
    write_picture(&elsewhere.path().join("deep/0.png"), 101);
    symlink(elsewhere.path(), ape.join("link")).unwrap();
    symlink(elsewhere.path().join("deep/0.png"), ape.join("link.png")).unwrap();
    // To itself, to the class, to the split, and to the class by way of elsewhere.
    symlink(".", ape.join("self")).unwrap();
    symlink(&ape, ape.join("deep")).unwrap();
    symlink("..", ape.join("up")).unwrap();
    symlink(&ape, elsewhere.path().join("back")).unwrap();
    // A class that is a link.
    symlink(elsewhere.path().join("deep"), folder.path().join("train/cow")).unwrap();
    let data = ImageFolder::open(folder.path()).unwrap();
    assert_eq!(data.train.class_names(), ["ape", "bee", "cow"]);
    assert_eq!(reds_of(&data.train, "ape"), [0, 101, 101]);
    assert_eq!(reds_of(&data.train, "cow"), [101]);
    // A link to nothing is named, as is what is no file.
    let broken = ape.join("broken.png");
    symlink("nothing", &broken).unwrap();
    let error = ImageFolder::open(folder.path()).unwrap_err();
    assert!(matches!(error, DatasetError::Picture(PictureError::File { path, .. }) if path == broken));
    fs::remove_file(&broken).unwrap();
    symlink("/dev/null", &broken).unwrap();
    let error = ImageFolder::open(folder.path()).unwrap_err();
    assert!(matches!(error, DatasetError::Picture(PictureError::Format { path, .. }) if path == broken));
}

#[cfg(target_os = "linux")]
#[test]
fn a_name_that_is_no_utf_8_is_a_name() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let folder = TempDir::new().unwrap();
    for (red, class) in [b"caf\xe8", b"caf\xe9"].into_iter().enumerate() {
        for split in ["train", "test"] {
            let class = folder.path().join(split).join(OsStr::from_bytes(class));
            write_picture(&class.join(OsStr::from_bytes(b"\xff.png")), 100 + red as u8);
        }
    }
    let data = ImageFolder::open(folder.path()).unwrap();
    // Told apart, though neither can be shown as it is.
    assert_eq!(data.train.class_names(), [r"caf\xE8", r"caf\xE9"]);
    assert_eq!(labels_and_reds(&data.test), [(0, 100), (1, 101)]);
}

#[test]
fn cifar10_s_classes_are_in_its_order() {
    let published = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
    for classes in [published, CIFAR10_CLASSES] {
        let folder = TempDir::new().unwrap();
        write_pictures(folder.path(), &classes);
        let own = ImageFolder::open(folder.path()).unwrap();
        assert_eq!(own.train.class_names(), classes);
        let data = Cifar10::from_folder(folder.path()).unwrap();
        assert_eq!(data.train.class_names(), CIFAR10_CLASSES);
        assert_eq!(data.test.name(), "CIFAR-10");
        let expected: Vec<(u32, u8)> = (0..10).map(|label| (label, 20 * label as u8)).collect();
        for set in [own.train, own.test, data.train, data.test] {
            assert_eq!(labels_and_reds(&set), expected);
        }
    }
}

#[test]
fn what_is_wrong_with_pictures_in_folders_is_named() {
    let folder = TempDir::new().unwrap();
    write_pictures(folder.path(), &["ape", "bee"]);
    let error = || ImageFolder::open(folder.path()).unwrap_err();
    let bad = folder.path().join("test/bee/b.png");
    fs::write(&bad, "no picture").unwrap();
    assert!(matches!(error(), DatasetError::Picture(PictureError::Format { path, .. }) if path == bad));
    fs::remove_file(&bad).unwrap();
    // Pictures of other kinds are not left out in silence.
    for ending in ["gif", "bmp", "webp", "tif", "TIFF", "ppm", "heic", "avif"] {
        let other = folder.path().join(format!("train/ape/b.{ending}"));
        fs::write(&other, b"GIF89a\x01\0\x01\0\0\0\0;").unwrap();
        assert!(matches!(error(), DatasetError::Picture(PictureError::Format { path, .. }) if path == other));
        fs::remove_file(&other).unwrap();
    }
    // A cut JPEG, which a browser would show with gray below.
    let cut = folder.path().join("train/ape/b.jpg");
    let jpeg = include_bytes!("fixtures/progressive.jpg");
    fs::write(&cut, &jpeg[..jpeg.len() * 9 / 10]).unwrap();
    assert!(matches!(error(), DatasetError::Picture(PictureError::Damaged { path, .. }) if path == cut));
    fs::remove_file(&cut).unwrap();
    let other = folder.path().join("test/cow");
    fs::create_dir(&other).unwrap();
    assert!(matches!(error(), DatasetError::UnknownClass { path, .. } if path == other));
    fs::remove_dir(&other).unwrap();
    // Folders without pictures, of either split, all of them.
    for (split, classes) in [("train", "cow, hen"), ("test", "ape, bee")] {
        let split = folder.path().join(split);
        for class in classes.split(", ") {
            fs::create_dir_all(split.join(class).join("more")).unwrap();
            fs::rename(split.join(class).join("a.png"), split.join(class).join("a.txt")).unwrap_or_default();
        }
        let error = error();
        assert!(error.to_string().contains(&format!("inside them: {classes};")), "{error}");
        assert!(matches!(error, DatasetError::NoPictures { folder, .. } if folder == split));
        for class in classes.split(", ") {
            fs::remove_dir(split.join(class).join("more")).unwrap();
            fs::rename(split.join(class).join("a.txt"), split.join(class).join("a.png")).unwrap_or_default();
            fs::remove_dir(split.join(class)).unwrap_or_default();
        }
    }
    let test = folder.path().join("test");
    fs::remove_dir_all(&test).unwrap();
    assert!(matches!(error(), DatasetError::NoClasses(path) if path == test));
    assert!(ImageFolder::open(folder.path().join("absent")).is_err());
}
