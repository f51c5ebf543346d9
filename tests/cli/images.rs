//! Image files in folders: good and bad ones, whole and in tiles.

use std::fs;
use std::io::Cursor;

use image::{GrayImage, ImageFormat, Luma, Rgb, RgbImage};

use crate::checkpoint::assert_same_bits;
use crate::place::{Call, Place, photograph};

impl Place {
    /// `gpu-gan train` on a folder of images, for one step by default.
    fn train_on(&self, data: &str, arguments: &str) -> Call<'_> {
        let steps = if arguments.contains("--steps") { "" } else { "--steps 1" };
        self.gpu_gan(&format!("train {data} --model colour.toml --device cpu {steps} {arguments}"))
    }
}

#[test]
fn a_folder_of_images_is_trained_on_and_resumed() {
    let place = Place::with_photographs(20);
    let said = place.train_on("photographs", "--steps 3 --out run").succeeds();
    said.remarks("photographs: 20 images of 16 x 16 x 3");
    let reals = image::load_from_memory(&place.read("run/samples/reals.png")).unwrap();
    assert!(reals.color().has_color());
    place.resume("run", "--steps 6").succeeds();
    place.train_on("photographs", "--steps 6 --out whole").succeeds();
    let last = |run: &str| place.read(&format!("{run}/checkpoints/step-00000006.safetensors"));
    assert_same_bits(&last("run"), &last("whole"));

    let names = |text: String| text.lines().map(str::trim).filter(|line| line.contains("upscale")).count();
    assert_eq!(names(place.text("run/config.toml")), 1);
    fs::remove_file(place.path("photographs/03.png")).unwrap();
    place.resume("run", "--steps 9").refused().error("photographs are not those that the run began with");
}

#[test]
fn a_resumed_run_prepares_its_images_as_before() {
    let place = Place::with_photographs(4);
    place
        .train_on("photographs", "--tile 16 --stride 4 --steps 3 --out run")
        .succeeds()
        .remarks("every 4 pixels: 24 images");
    let config: toml::Table = toml::from_str(&place.text("run/config.toml")).unwrap();
    assert_eq!((config["tile"].as_integer(), config["stride"].as_integer()), (Some(16), Some(4)));
    place.resume("run", "--steps 6").succeeds().remarks("24 images");
    place.train_on("photographs", "--tile 16 --stride 4 --steps 6 --out whole").succeeds();
    let last = |run: &str| place.read(&format!("{run}/checkpoints/step-00000006.safetensors"));
    assert_same_bits(&last("run"), &last("whole"));
}

#[test]
fn stacked_mnist_is_built_in_and_not_converted() {
    let place = Place::new();
    let stacked = place.gpu_gan("train stacked-mnist --device cpu --dry-run").succeeds();
    stacked.remarks("stacked-mnist: 128000 images of 28 x 28 x 3").remarks("2 images of 28 x 28 x 3 -> 1");
    let other = place.gpu_gan("train stacked-mnist --device cpu --dry-run --model dcgan-small").refused();
    other.error("the images of stacked-mnist are 28 x 28 pixels with 3 channels").hint("--channels 3");
}

#[test]
fn the_aerial_images_are_built_in() {
    let place = Place::with_photographs(0);
    place.train_on("aerial", "").succeeds().remarks("aerial in tiles of 64 x 64, every 32 pixels: 1541 images");
    place.train_on("aerial", "--tile 128 --dry-run").succeeds().remarks("every 64 pixels: 345 images");
    place.train_on("aerial", "--tile 1250").refused().error("all 4 are smaller").error("1250 x 1250").hint("--tile");
    place.train_on("./aerial", "").refused().error("`./aerial` does not exist");
}

#[test]
fn aerial_images_are_flipped_and_turned_by_default() {
    let place = Place::with_photographs(0);
    let said = place.train_on("aerial", "--dry-run").succeeds();
    said.remarks("real images are mirrored, turned by quarter turns, the default for aerial (see --no-flip and");
    let said = place.train_on("aerial", "--dry-run --no-quarter-turns").succeeds();
    said.remarks("real images are mirrored\n");
    let said = place.train_on("aerial", "--dry-run --no-flip --no-quarter-turns").succeeds();
    assert!(!said.stderr().contains("augmentation"), "{}", said.stderr());
}

#[test]
fn one_image_in_tiles_is_enough() {
    let place = Place::with_photographs(0);
    place.write("my forest.png", &photograph(80, 80, 1));
    place.write("forest", &photograph(80, 80, 1));
    place.train_on("forest", "--tile 16").succeeds().remarks("25 images").prints("runs/forest-0001");
    place
        .train_on("forest", "")
        .refused()
        .error("gives 1 image to train on, and at least 16")
        .hint("--tile 16 --stride 8");
}

#[test]
fn a_second_run_reads_the_images_from_the_cache() {
    let place = Place::with_photographs(20);
    let train = |arguments: &str| place.train_on("photographs", arguments).succeeds().stderr();
    assert!(!train("--out first").contains("from the cache"));
    assert_eq!(place.cached().len(), 1);
    let path = place.cached().pop().unwrap();
    assert!(train("--out second").contains(&format!("data from the cache: {}\n", path.display())));
    let last = |run: &str| place.read(&format!("{run}/checkpoints/step-00000001.safetensors"));
    assert!(last("first") == last("second"));
    assert!(!train("--out third --no-cache").contains("from the cache"));
    assert_eq!(place.cached().len(), 1);

    let whole = fs::read(&path).unwrap();
    for damaged in [&whole[..whole.len() / 2], b"", &[whole[..100].to_vec(), vec![7; whole.len() - 100]].concat()] {
        fs::write(&path, damaged).unwrap();
        assert!(train("--dry-run").contains("rebuilding it"));
        assert!(fs::read(&path).unwrap() == whole, "the cache was not mended");
    }
    let other = photograph(20, 24, 49);
    place.write("photographs/07.png", &other);
    assert!(!train("--dry-run").contains("from the cache"));
}

#[test]
fn a_cache_that_cannot_be_written_stops_nothing() {
    let place = Place::with_photographs(20);
    place.write("file", b"");
    let call = place.train_on("photographs", "").env("GPU_GAN_CACHE", "file");
    call.succeeds().remarks("the images are not cached for the next time: cannot create the folder file/images");
}

#[test]
fn a_folder_of_two_images_is_refused_with_what_to_do() {
    let place = Place::with_photographs(2);
    let said = place.train_on("photographs", "").refused();
    said.error("gives 2 images to train on, and at least 16 are needed")
        .hint("--tile 16 --stride 8")
        .hint("add images");
    place.train_on("photographs", "--tile 16 --stride 2").succeeds().remarks("30 images");
    let said = place.train_on("photographs", "--tile 16").refused();
    said.error("gives 2 tiles to train on, and at least 16 are needed").hint("smaller --stride");
}

#[test]
fn an_empty_folder_is_refused() {
    let place = Place::with_photographs(0);
    place
        .train_on("photographs", "")
        .refused()
        .error("photographs is empty")
        .hint("PNG, JPEG")
        .hint("`mnist` or `aerial`");
    fs::create_dir_all(place.path("photographs/a/b")).unwrap();
    place.train_on("photographs", "").refused().error("photographs holds no image").error(".png").hint("of images");
}

#[test]
fn images_smaller_than_the_models_are_named_or_refused() {
    let place = Place::with_photographs(20);
    place.write("photographs/small.png", &photograph(15, 90, 1));
    let said =
        place.train_on("photographs", "").succeeds().remarks("1 of 21 images is left out, because it is smaller than");
    said.remarks("    small.png: 90 x 15 pixels").remarks("20 images of");
    place.train_on("photographs", "--upscale").succeeds().remarks("21 images of");

    let said = place.train_on("photographs", "--tile 21").refused();
    said.error("all 21 are smaller (the largest is 90 x 15 pixels) than a tile, 21 x 21").hint("smaller --tile");
    let said = place.train_on("photographs", "--tile 12").refused();
    said.error("tiles of 12 x 12 pixels are smaller than the model's images, 16 x 16")
        .hint("--tile 16")
        .hint("--upscale");
    place.train_on("photographs", "--tile 12 --upscale").succeeds().remarks("in tiles of 12 x 12");
    place.train_on("photographs", "--stride 12").refused().error("--stride 12").hint("--tile");
}

#[test]
fn damaged_images_are_named_and_the_others_trained_on() {
    let place = Place::with_photographs(20);
    let image = RgbImage::from_fn(64, 64, |x, y| Rgb([x as u8 * 3, y as u8 * 3, (x * y) as u8]));
    let mut jpeg = Cursor::new(Vec::new());
    image.write_to(&mut jpeg, ImageFormat::Jpeg).unwrap();
    let jpeg = jpeg.into_inner();
    place.write("photographs/x short.jpg", &jpeg[..jpeg.len() / 2]);
    let mut broken = jpeg.clone();
    broken[2..40].fill(0xff);
    place.write("photographs/x broken.jpg", &broken);
    let png = photograph(40, 40, 3);
    place.write("photographs/x short.png", &png[..png.len() - 30]);
    place.write("photographs/x text.png", b"not an image");
    place.write("photographs/x empty.gif", b"");
    place.write("photographs/x ünïcödé 名.webp", b"RIFF....WEBPnothing");
    fs::create_dir(place.path("photographs/x folder.png")).unwrap();
    // The format is detected from the content, not from the name.
    place.write("photographs/is a jpeg.png", &jpeg);

    let said = place.train_on("photographs", "").succeeds();
    let said = said
        .remarks("6 of 27 images are left out, because they cannot be read\n")
        .remarks("    x short.jpg: it is truncated\n")
        .remarks("    x short.png: it is")
        .remarks("    x text.png: its content is not PNG")
        .remarks("    x broken.jpg: ")
        .remarks("21 images of");
    assert!(said.stderr().contains("    and 1 more\n"), "{}", said.stderr());

    for i in 0..20 {
        place.write(&format!("photographs/y{i}.bmp"), b"BM");
    }
    let said = place.train_on("photographs", "").refused();
    said.error("26 of the 47 images").error("cannot be read, such as x broken.jpg: ").hint("whole");
}

#[test]
fn grey_and_coloured_images_and_moving_ones_go_together() {
    let place = Place::with_photographs(20);
    GrayImage::from_pixel(30, 30, Luma([80])).save(place.path("photographs/grey.png")).unwrap();
    let mut gif = Vec::new();
    let mut encoder = image::codecs::gif::GifEncoder::new(&mut gif);
    for value in [200, 10] {
        encoder.encode(&[value; 16 * 16 * 3], 16, 16, image::ExtendedColorType::Rgb8).unwrap();
    }
    drop(encoder);
    place.write("photographs/moving.gif", &gif);
    let said = place.train_on("photographs", "").succeeds().remarks("22 images of 16 x 16 x 3");
    said.remarks("1 of 22 images is grey")
        .remarks("1 of 22 images is of several frames or pages; the first one is used");

    place.write("grey.toml", crate::place::COLOUR.replace("channels = 3", "channels = 1").as_bytes());
    let said = place.gpu_gan("train photographs --model grey.toml --device cpu --steps 1").succeeds();
    said.remarks("21 of 22 images are in colour").remarks("22 images of 16 x 16 x 1");
}

#[test]
fn an_image_that_would_fill_the_memory_is_left_out() {
    let place = Place::with_photographs(20);
    // The header of a PNG of 30000 x 30000 pixels in colour, and hardly anything behind it.
    let mut png = photograph(20, 24, 0);
    png[16..24].copy_from_slice(&[0, 0, 0x75, 0x30, 0, 0, 0x75, 0x30]);
    let mut crc = flate2::Crc::new();
    crc.update(&png[12..29]);
    png[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    place.write("photographs/huge.png", &png);
    let said = place.train_on("photographs", "").succeeds();
    said.remarks("huge.png: its 30000 x 30000 pixels take 2.5 GiB, more than the limit of 512.0 MiB");
    let said = place.train_on("photographs/huge.png", "--tile 64").refused();
    said.error("huge.png cannot be read: huge.png: its 30000 x 30000 pixels").hint("PNG, JPEG");
}

#[test]
fn more_tiles_than_memory_are_refused_at_once() {
    let place = Place::with_photographs(0);
    let mut png = photograph(20, 24, 0);
    png[16..24].copy_from_slice(&[0, 0, 0x30, 0, 0, 0, 0x30, 0]);
    let mut crc = flate2::Crc::new();
    crc.update(&png[12..29]);
    png[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    png.resize(20_000, 0); // bytes enough for the pixels
    place.write("large.png", &png);
    let wide = crate::place::COLOUR.replace("height = 16, width = 16", "height = 256, width = 256");
    let wide = wide
        .replace("features = 128", "features = 32768")
        .replace("height = 8, width = 8", "height = 128, width = 128");
    place.write("wide.toml", wide.as_bytes());
    let call = place.gpu_gan("train large.png --model wide.toml --device cpu --steps 1 --tile 16 --stride 1 --upscale");
    call.refused().error("150626529 tiles of 256 x 256 x 3").error("TiB").hint("larger --stride");
}

#[test]
fn folders_that_may_not_be_read_are_named() {
    let place = Place::with_photographs(20);
    place.write("photographs/closed/a.png", &photograph(20, 24, 1));
    place.write("photographs/b.png", &photograph(20, 24, 1));
    if !close(&place, &["photographs/b.png", "photographs/closed"]) {
        return crate::place::skipped("folders_that_may_not_be_read_are_named", "permissions do not bind this user");
    }
    let said = place.train_on("photographs", "").succeeds().remarks("2 of 22 images are left out");
    said.remarks("    b.png: Permission denied").remarks("    closed: Permission denied");
    open(&place, "photographs/closed");
    assert!(close(&place, &["photographs"]));
    place.train_on("photographs", "").fails().error("photographs").hint("permissions");
    open(&place, "photographs");
}

/// Takes away all permissions; whether that keeps anyone out.
#[cfg(unix)]
fn close(place: &Place, names: &[&str]) -> bool {
    use std::os::unix::fs::PermissionsExt;
    for name in names {
        fs::set_permissions(place.path(name), fs::Permissions::from_mode(0o000)).unwrap();
    }
    let path = place.path(names[0]);
    let is_closed = if path.is_dir() { fs::read_dir(path).is_err() } else { fs::read(path).is_err() };
    if !is_closed {
        for name in names {
            open(place, name);
        }
    }
    is_closed
}

#[cfg(not(unix))]
fn close(_: &Place, _: &[&str]) -> bool {
    false
}

#[cfg(unix)]
fn open(place: &Place, name: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(place.path(name), fs::Permissions::from_mode(0o755)).unwrap();
}

#[cfg(not(unix))]
fn open(_: &Place, _: &str) {}

#[cfg(unix)]
#[test]
fn circular_links_and_spaces_in_names_are_handled() {
    let place = Place::with_photographs(20);
    fs::rename(place.path("photographs"), place.path("fotos_für_Ünal")).unwrap();
    std::os::unix::fs::symlink(place.path("fotos_für_Ünal"), place.path("fotos_für_Ünal/in a circle")).unwrap();
    place.write("fotos_für_Ünal/sub folder/日本 1.png", &photograph(20, 24, 1));
    place.train_on("fotos_für_Ünal", "").succeeds().remarks("21 images of").prints("runs/fotos_für_Ünal-0001");
}

#[test]
fn runs_inside_the_data_folder_are_no_data() {
    let place = Place::with_photographs(20);
    place.train_on("photographs", "--out photographs/runs/a").succeeds().remarks("20 images of");
    let said = place.train_on("photographs", "--out photographs/runs/b").succeeds().remarks("20 images of");
    said.remarks("1 folder is skipped, because gpu-gan wrote it: runs/a\n");
}

#[test]
fn a_run_finds_its_images_under_another_path() {
    let place = Place::with_photographs(20);
    place.train_on("photographs", "--steps 3 --out run").succeeds();
    fs::rename(place.path("photographs"), place.path("moved")).unwrap();
    place.resume("run", "--steps 6").refused().error("does not exist").hint("gpu-gan train PATH --resume run");
    place.gpu_gan("eval run --device cpu").refused().error("does not exist").hint("--data");

    place.gpu_gan("train moved --resume run --device cpu --steps 6").succeeds();
    place.resume("run", "--steps 7").succeeds(); // the new path is saved
    fs::rename(place.path("moved"), place.path("again")).unwrap();
    place.gpu_gan("eval run --device cpu --data again --count 20").succeeds();

    place.write("again/03.png", &photograph(20, 24, 40));
    let said = place.gpu_gan("train again --resume run --device cpu --steps 9").refused();
    said.error("again are not those that the run began with").hint("gpu-gan train PATH --resume run");
}

#[test]
fn drawn_images_below_the_data_are_no_data_whatever_they_are_called() {
    let place = Place::with_photographs(20);
    place.train_on("photographs", "--steps 2 --out run").succeeds();
    let draw = |command: &str, out: &str| {
        place.gpu_gan(&format!("{command} --device cpu --out photographs/{out}")).succeeds();
    };
    draw("sample run", "holiday.png");
    draw("sample run --count 3", "drawn");
    for out in ["a.gif", "b.png", "frames"] {
        draw("interpolate run --seeds 1,2 --frames 2 --scale 2", out);
    }
    let said = place.train_on("photographs", "--steps 2 --out again").succeeds().remarks("20 images of");
    said.remarks("2 folders are skipped, because gpu-gan wrote them: drawn, frames\n")
        .remarks("3 files are skipped, because they are sheets, plots or animations that gpu-gan wrote: ");
    // Single drawn images are data where the person puts them, and so is their folder by its name.
    fs::copy(place.path("photographs/drawn/seed-000000.png"), place.path("photographs/mine.png")).unwrap();
    place.train_on("photographs", "--steps 2 --out more").succeeds().remarks("21 images of");
    place.sample("run", "--count 30 --out samples").succeeds();
    place.train_on("samples", "--steps 2 --out from-samples").succeeds().remarks("30 images of");
}
