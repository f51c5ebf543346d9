//! A temporary folder for a test, calls of the program in it, and assertions about output and files.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use assert_cmd::assert::Assert;
use predicates::prelude::*;
use predicates::str::contains;

/// The number of images of [`SHAPES`].
pub(crate) const IMAGES: usize = 40;
/// The height and width of the images of [`SHAPES`].
pub(crate) const SIDE: usize = 8;
/// The folder of the images in a [`Place`].
pub(crate) const SHAPES: &str = "shapes/train-images-idx3-ubyte";

/// A tiny model with every kind of tensor: weights with and without a bias, batch normalisation, a transposed convolution. An epoch has
/// ten steps.
pub(crate) const TINY: &str = include_str!("../common/tiny.toml");

/// A tiny model of colour images of 16 x 16 pixels.
pub(crate) const COLOUR: &str = r#"
name = "colour"
about = "A small model of images in colour"
image = { height = 16, width = 16, channels = 3 }
latent = 4
generator = [
    { layer = "linear", features = 128, bias = false },
    { layer = "reshape", height = 8, width = 8, channels = 2 },
    { layer = "batch-norm" },
    { layer = "relu" },
    { layer = "transposed-conv", channels = 3, kernel = 2, stride = 2 },
    { layer = "tanh" },
]
discriminator = [
    { layer = "conv", channels = 2, kernel = 4, stride = 4 },
    { layer = "leaky-relu", slope = 0.2 },
    { layer = "flatten" },
    { layer = "linear", features = 1 },
]

[training]
epochs = 1
batch-size = 4
ema-decay = 0.9
lr = 2e-3
beta1 = 0.5
beta2 = 0.99
eps = 1e-8

[initial]
weight = { mean = 0.0, std = 0.2 }
gamma = { mean = 1.0, std = 0.02 }
"#;

/// The time limit of a call. No call takes that long, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The images of the shapes as an IDX file.
pub(crate) fn images(pixel: impl Fn(usize, usize, usize) -> u8) -> Vec<u8> {
    let places = (0..IMAGES * SIDE * SIDE).map(|at| (at / (SIDE * SIDE), at / SIDE % SIDE, at % SIDE));
    let pixels = places.map(|(i, y, x)| pixel(i, y, x)).collect::<Vec<_>>();
    [idx_header([0, 0, 8, 3], &[IMAGES, SIDE, SIDE]), pixels].concat()
}

/// The header of an IDX file.
pub(crate) fn idx_header(magic: [u8; 4], dimensions: &[usize]) -> Vec<u8> {
    let dimensions = dimensions.iter().flat_map(|&size| (size as u32).to_be_bytes());
    magic.into_iter().chain(dimensions).collect()
}

/// The pixels of the shapes: bars and squares, all different.
pub(crate) fn shapes() -> Vec<u8> {
    images(|i, y, x| if (x + i) % 5 < 2 || (y * (i / 5 + 1)) % 7 == 0 { 255 - i as u8 } else { i as u8 })
}

/// A colour PNG, different for each number.
pub(crate) fn photograph(height: u32, width: u32, number: usize) -> Vec<u8> {
    let image = image::RgbImage::from_fn(width, height, |x, y| [x as u8 * 9, y as u8 * 9, number as u8 * 5].into());
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// The current folder of a test.
pub(crate) struct Place {
    folder: tempfile::TempDir,
    /// The cache folder. It is outside of the current folder, because tests check the files of that folder.
    cache: tempfile::TempDir,
}

impl Place {
    /// An empty folder.
    pub(crate) fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), cache: tempfile::tempdir().unwrap() }
    }

    /// A folder with the images `shapes`, their labels, and the model `tiny.toml`.
    pub(crate) fn new() -> Self {
        let place = Self::empty();
        place.write(SHAPES, &shapes());
        let labels = (0..IMAGES).map(|i| (i % 10) as u8).collect();
        place.write("shapes/train-labels-idx1-ubyte", &[idx_header([0, 0, 8, 1], &[IMAGES]), labels].concat());
        place.write("tiny.toml", TINY.as_bytes());
        place
    }

    /// A folder with the model `colour.toml`, and colour images of 20 x 24 pixels in the folder `photographs`.
    pub(crate) fn with_photographs(count: usize) -> Self {
        let place = Self::empty();
        place.write("colour.toml", COLOUR.as_bytes());
        fs::create_dir(place.path("photographs")).unwrap();
        for i in 0..count {
            place.write(&format!("photographs/{i:02}.png"), &photograph(20, 24, i));
        }
        place
    }

    /// Like [`Self::new`], with a finished run of these arguments in `run`.
    #[track_caller]
    pub(crate) fn with_run(arguments: &str) -> Self {
        let place = Self::new();
        place.train(&format!("--out run {arguments}")).succeeds();
        place
    }

    /// The program with these arguments, which are separated by spaces.
    pub(crate) fn gpu_gan(&self, arguments: &str) -> Call<'_> {
        Call { place: self, command: self.command(arguments) }
    }

    /// `gpu-gan train` on the shapes.
    pub(crate) fn train(&self, arguments: &str) -> Call<'_> {
        self.gpu_gan(&format!("train shapes --model tiny.toml --device cpu {arguments}"))
    }

    /// `gpu-gan train --resume`.
    pub(crate) fn resume(&self, run: &str, arguments: &str) -> Call<'_> {
        self.gpu_gan(&format!("train --resume {run} --device cpu {arguments}"))
    }

    /// `gpu-gan sample`.
    pub(crate) fn sample(&self, run: &str, arguments: &str) -> Call<'_> {
        self.gpu_gan(&format!("sample {run} --device cpu {arguments}"))
    }

    /// The program as the standard library starts it.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gpu-gan"));
        command.args(arguments.split_whitespace()).current_dir(self.folder.path()).envs(self.environment());
        #[cfg(unix)]
        with_default_signals(&mut command);
        command
    }

    /// A shell script in which `"$0" "$@"` is the program with these arguments.
    #[cfg(target_os = "linux")]
    pub(crate) fn shell(&self, script: &str, arguments: &str) -> Call<'_> {
        Call { place: self, command: self.script(script, arguments) }
    }

    /// The program with arguments as a person pastes them into a shell.
    #[cfg(unix)]
    pub(crate) fn pasted(&self, arguments: &str) -> Call<'_> {
        Call { place: self, command: self.script(&format!("\"$0\" {arguments}"), "") }
    }

    /// The same script as the standard library starts it.
    #[cfg(unix)]
    pub(crate) fn script(&self, script: &str, arguments: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_gpu-gan")]).args(arguments.split_whitespace());
        command.current_dir(self.folder.path()).envs(self.environment());
        with_default_signals(&mut command);
        command
    }

    fn environment(&self) -> [(&'static str, PathBuf); 4] {
        [
            ("GPU_GAN_DEVICE", "auto".into()), // whatever the person who runs the tests prefers
            ("GPU_GAN_CACHE", self.cache.path().into()),
            ("RAYON_NUM_THREADS", "2".into()), // the device's name has their number
            ("XDG_RUNTIME_DIR", self.folder.path().into()), // without it, Mesa's drivers print errors of their own
        ]
    }

    /// The user's cache.
    #[cfg(unix)]
    pub(crate) fn cache_folder(&self) -> &Path {
        self.cache.path()
    }

    /// The cached data sets.
    pub(crate) fn cached(&self) -> Vec<PathBuf> {
        let folder = fs::read_dir(self.cache.path().join("images"));
        folder.map_or(Vec::new(), |files| files.map(|file| file.unwrap().path()).collect())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    #[track_caller]
    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}; there is {:#?}", self.all_names()))
    }

    #[track_caller]
    pub(crate) fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).unwrap()
    }

    /// Decodes a grey PNG.
    #[track_caller]
    pub(crate) fn image(&self, name: &str) -> image::GrayImage {
        let image = image::load_from_memory_with_format(&self.read(name), image::ImageFormat::Png).unwrap();
        assert_eq!(image.color(), image::ColorType::L8, "{name}");
        image.into_luma8()
    }

    /// Decodes a GIF that repeats forever: the frames in grey, and their delays in hundredths of a second.
    #[track_caller]
    pub(crate) fn animation(&self, name: &str) -> Vec<(image::GrayImage, u16)> {
        let file = self.read(name);
        let mut options = gif::DecodeOptions::new();
        options.set_color_output(gif::ColorOutput::RGBA);
        let mut decoder = options.read_info(file.as_slice()).unwrap();
        let (width, height) = (decoder.width().into(), decoder.height().into());
        let mut frames = Vec::new();
        while let Some(frame) = decoder.read_next_frame().unwrap() {
            let pixels = frame.buffer.as_chunks::<4>().0;
            assert!(pixels.iter().all(|[r, g, b, a]| r == g && g == b && *a == 255), "{name} is not grey");
            let grey = pixels.iter().map(|pixel| pixel[0]).collect();
            frames.push((image::GrayImage::from_raw(width, height, grey).unwrap(), frame.delay));
        }
        assert_eq!(decoder.repeat(), gif::Repeat::Infinite);
        frames
    }

    /// The shape and the bytes of an .npy file.
    #[track_caller]
    pub(crate) fn array(&self, name: &str) -> (Vec<u64>, Vec<u8>) {
        let file = self.read(name);
        let array = npyz::NpyFile::new(file.as_slice()).unwrap();
        assert_eq!(array.order(), npyz::Order::C);
        (array.shape().to_vec(), array.into_vec::<u8>().unwrap())
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// The names in a folder, sorted.
    #[track_caller]
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn all_names(&self) -> Vec<PathBuf> {
        self.everything().into_keys().collect()
    }

    /// All files with their contents, and all folders.
    pub(crate) fn everything(&self) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        let mut all = BTreeMap::new();
        let mut folders = vec![self.folder.path().to_path_buf()];
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                let name = path.strip_prefix(self.folder.path()).unwrap().to_path_buf();
                let content = path.is_file().then(|| fs::read(&path).unwrap());
                all.insert(name, content);
                if path.is_dir() {
                    folders.push(path);
                }
            }
        }
        all
    }

    /// Asserts that the program left no temporary files.
    #[track_caller]
    pub(crate) fn has_no_temporary_files(&self) {
        let temporary = |path: &PathBuf| {
            path.to_string_lossy().contains(".gpu-gan-") || path.extension().is_some_and(|ending| ending == "tmp")
        };
        let found: Vec<_> = self.all_names().into_iter().filter(temporary).collect();
        assert!(found.is_empty(), "left behind: {found:?}");
    }
}

/// A command line to be run.
pub(crate) struct Call<'a> {
    place: &'a Place,
    command: Command,
}

impl Call<'_> {
    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets the current folder, relative to the place.
    pub(crate) fn within(mut self, folder: &str) -> Self {
        self.command.current_dir(self.place.path(folder));
        self
    }

    /// Runs the command and asserts exit code 0.
    #[track_caller]
    pub(crate) fn succeeds(self) -> Said {
        Said(self.ends().success())
    }

    /// Runs the command and asserts exit code 1, with an error and a hint as the last two lines.
    #[track_caller]
    pub(crate) fn fails(self) -> Said {
        let said = Said(self.ends().code(1).stdout(predicate::str::is_empty()));
        let text = said.stderr();
        let lines: Vec<_> = text.lines().collect();
        let errors = lines.iter().filter(|line| line.starts_with("error: ")).count();
        let [.., error, hint] = lines[..] else { panic!("no error with a hint:\n{text}") };
        assert!(error.starts_with("error: ") && errors == 1, "no sentence before the last line:\n{text}");
        assert!(
            hint.strip_prefix("hint:  ").is_some_and(|hint| !hint.trim().is_empty()),
            "no hint at the end:\n{text}"
        );
        let mistake =
            ["panicked", "internal error", "RUST_BACKTRACE", "src/"].iter().find(|word| text.contains(**word));
        assert_eq!(mistake, None, "{text}");
        said
    }

    /// Like [`Self::fails`], and asserts that no file changed.
    #[track_caller]
    pub(crate) fn refused(self) -> Said {
        let place = self.place;
        let before = place.everything();
        let said = self.fails();
        let after = place.everything();
        let is_new = |(path, content): &(&PathBuf, &Option<Vec<u8>>)| before.get(*path) != Some(*content);
        let new: Vec<_> = after.iter().filter(is_new).map(|(path, _)| path).collect();
        assert!(before == after, "left behind or changed: {new:?}\n{}", said.stderr());
        said
    }

    /// Runs the command and asserts exit code 2, an explanation of clap, and that no file changed.
    #[track_caller]
    pub(crate) fn misused(self) -> Said {
        let place = self.place;
        let before = place.everything();
        let said = Said(self.ends().code(2).stdout(predicate::str::is_empty()).stderr(contains("--help")));
        assert!(before == place.everything(), "{}", said.stderr());
        said
    }

    #[track_caller]
    fn ends(self) -> Assert {
        assert_cmd::Command::from_std(self.command).timeout(PATIENCE).assert()
    }
}

/// The output of a call.
pub(crate) struct Said(Assert);

impl Said {
    /// The text on standard output.
    #[track_caller]
    pub(crate) fn prints(self, text: &str) -> Self {
        Self(self.0.stdout(contains(text)))
    }

    /// The text on standard error.
    #[track_caller]
    pub(crate) fn remarks(self, text: &str) -> Self {
        Self(self.0.stderr(contains(text)))
    }

    /// Asserts that the error contains a text.
    #[track_caller]
    pub(crate) fn error(self, text: &str) -> Self {
        self.line("error: ", text)
    }

    /// Asserts that the hint contains a text.
    #[track_caller]
    pub(crate) fn hint(self, text: &str) -> Self {
        self.line("hint:  ", text)
    }

    #[track_caller]
    fn line(self, start: &str, text: &str) -> Self {
        let stderr = self.stderr();
        let line = stderr.lines().find(|line| line.starts_with(start)).unwrap_or_default();
        assert!(line.contains(text), "`{text}` is not said in\n{line}\nof\n{stderr}");
        self
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8(self.0.get_output().stdout.clone()).unwrap()
    }

    /// Parses standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout()).unwrap_or_else(|error| panic!("{error} in\n{}", self.stdout()))
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8(self.0.get_output().stderr.clone()).unwrap()
    }
}

/// Says that a test could not be done here, so that it is not taken for one that passed. The test harness holds back
/// what `eprintln` prints, but not this.
#[cfg_attr(not(unix), expect(dead_code, reason = "what may be missing is asked for on unix only"))]
pub(crate) fn skipped(test: &str, reason: &str) {
    let _ = writeln!(io::stderr(), "SKIPPED {test}: {reason}");
}

/// The files of a folder with their contents.
#[track_caller]
pub(crate) fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())).collect()
}

/// Tests of these assertions.
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    const EXPLAINED: &str = "echo 'error: it is so' >&2; echo 'hint:  do that' >&2; exit 1";

    fn script<'a>(place: &'a Place, script: &str) -> Call<'a> {
        place.shell(script, "")
    }

    #[test]
    fn a_failure_with_its_hint_is_a_failure() {
        let place = Place::new();
        script(&place, EXPLAINED).refused().error("it is so").hint("do that");
        script(&place, &format!("echo more > notes; {EXPLAINED}")).fails();
    }

    #[test]
    #[should_panic(expected = "left behind or changed: [\"notes\"]")]
    fn a_file_left_behind_is_noticed() {
        script(&Place::new(), &format!("echo more > notes; {EXPLAINED}")).refused();
    }

    #[test]
    #[should_panic(expected = "left behind or changed: [\"tiny.toml\"]")]
    fn a_file_that_changed_is_noticed() {
        script(&Place::new(), &format!("echo more >> tiny.toml; {EXPLAINED}")).refused();
    }

    #[test]
    #[should_panic(expected = "left behind or changed: []")]
    fn a_file_that_went_away_is_noticed() {
        script(&Place::new(), &format!("rm tiny.toml; {EXPLAINED}")).refused();
    }

    #[test]
    #[should_panic(expected = "no hint at the end")]
    fn a_failure_with_an_empty_hint_is_noticed() {
        script(&Place::new(), "echo 'error: it is so' >&2; echo 'hint:  ' >&2; exit 1").fails();
    }

    #[test]
    #[should_panic(expected = "no sentence before the last line")]
    fn two_errors_are_noticed() {
        script(&Place::new(), &format!("echo 'error: and so' >&2; {EXPLAINED}")).fails();
    }

    #[test]
    #[should_panic(expected = "Unexpected return code")]
    fn another_exit_code_is_noticed() {
        script(&Place::new(), &EXPLAINED.replace("exit 1", "exit 101")).fails();
    }

    #[test]
    #[should_panic(expected = "is not said in")]
    fn a_fact_that_is_not_said_is_noticed() {
        script(&Place::new(), EXPLAINED).fails().error("do that");
    }
}

/// Lets signals end a command, whatever the tests inherited: a shell that runs them in its background ignores SIGINT.
#[cfg(unix)]
fn with_default_signals(command: &mut Command) {
    use std::os::unix::process::CommandExt;

    let reset = || {
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2] {
            // SAFETY: `signal` may be called between fork and exec, and SIG_DFL refers to no code of this process.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        Ok(())
    };
    // SAFETY: the closure only calls `signal`, which is async-signal-safe, and allocates nothing.
    unsafe { command.pre_exec(reset) };
}
