//! Known failures: a file that lists which cases are expected to fail on which devices.

use std::path::Path;

use regex_lite::{Regex, RegexBuilder};
use serde::Deserialize;

use crate::error::{Error, Result};

/// The largest size of a file of known failures, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The expected failures of a TOML file; by default none:
///
/// ```toml
/// [[failure]]
/// vendor = "0x10de"           # PCI number; optional, as are device and driver
/// device = "GeForce"          # regular expressions, in any case of letters
/// driver = "^NVIDIA 550\\."
/// case = "^conv_grad_weight/" # regular expression of the names that `gpu-gan verify --list` prints
/// reason = "driver bug 1234"
/// ```
#[derive(Debug, Default, Clone)]
pub struct KnownFailures(Vec<KnownFailure>);

/// An entry of the file with compiled expressions.
#[derive(Debug, Clone)]
struct KnownFailure {
    /// The PCI number of the vendor; `None` for all vendors.
    vendor: Option<u32>,
    /// The devices; `None` for all devices.
    device: Option<Regex>,
    /// The drivers; `None` for all drivers.
    driver: Option<Regex>,
    /// The names of the cases.
    case: Regex,
    /// The reason for the failure.
    reason: String,
}

/// The tables of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// The tables `[[failure]]`.
    #[serde(default)]
    failure: Vec<Entry>,
}

/// A table `[[failure]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// The PCI number of the vendor, such as `0x10de`.
    vendor: Option<String>,
    /// A regular expression of the device.
    device: Option<String>,
    /// A regular expression of the driver.
    driver: Option<String>,
    /// A regular expression of the names of cases.
    case: String,
    /// The reason for the failure.
    reason: String,
}

impl KnownFailures {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is larger than 1 MiB, or does not have the format above.
    pub fn read(path: &Path) -> Result<Self> {
        let size = std::fs::metadata(path).map_err(Error::file("read", path))?.len();
        if size > MAX_BYTES {
            return Err(invalid(path, &format!("{size} bytes exceed the limit of {MAX_BYTES}")));
        }
        let text = std::fs::read_to_string(path).map_err(Error::file("read", path))?;
        Self::parse(&text).map_err(|problem| invalid(path, &problem))
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        // One line, without toml's drawing of the position.
        let file: File = toml::from_str(text).map_err(|error| match error.span() {
            Some(span) => format!("line {}: {}", text[..span.start].lines().count().max(1), error.message()),
            None => error.message().to_string(),
        })?;
        file.failure.into_iter().map(Entry::compiled).collect::<Result<_, _>>().map(Self)
    }

    /// The known failures of one device, with its PCI vendor number, description and driver.
    #[must_use]
    pub(super) fn of_device(&self, vendor: u32, device: &str, driver: &str) -> Self {
        let matches = |known: &&KnownFailure| {
            known.vendor.is_none_or(|known| known == vendor)
                && known.device.as_ref().is_none_or(|known| known.is_match(device))
                && known.driver.as_ref().is_none_or(|known| known.is_match(driver))
        };
        Self(self.0.iter().filter(matches).cloned().collect())
    }

    /// Why a case is expected to fail, if it is.
    pub(super) fn reason(&self, case: &str) -> Option<&str> {
        self.0.iter().find(|known| known.case.is_match(case)).map(|known| known.reason.as_str())
    }
}

impl Entry {
    fn compiled(self) -> Result<KnownFailure, String> {
        let regex = |pattern: &String| {
            let regex = RegexBuilder::new(pattern).case_insensitive(true).build();
            regex.map_err(|error| format!("{pattern:?} is not a regular expression: {error}"))
        };
        let vendor = self.vendor.map(|number| {
            let hexadecimal = number.strip_prefix("0x").and_then(|digits| u32::from_str_radix(digits, 16).ok());
            hexadecimal.ok_or_else(|| format!("vendor {number:?} is not a PCI number such as \"0x10de\""))
        });
        Ok(KnownFailure {
            vendor: vendor.transpose()?,
            device: self.device.as_ref().map(regex).transpose()?,
            driver: self.driver.as_ref().map(regex).transpose()?,
            case: regex(&self.case)?,
            reason: self.reason,
        })
    }
}

fn invalid(path: &Path, problem: &str) -> Error {
    Error::Request {
        message: format!("{} is not a list of known failures: {problem}", path.display()),
        hint: "write [[failure]] tables with case and reason, and if needed vendor, device and driver".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        [[failure]]
        device = "geforce"
        driver = "^NVIDIA 550\\."
        case = "^conv_grad_weight/"
        reason = "driver bug"

        [[failure]]
        vendor = "0x1002"
        case = "^step/"
        reason = "all AMD devices"
    "#;

    #[test]
    fn a_failure_is_known_if_an_entry_matches_its_device_and_case() {
        let known = KnownFailures::parse(FILE).unwrap();
        let nvidia = known.of_device(0x10de, "NVIDIA GeForce RTX 3060 (Vulkan)", "NVIDIA 550.54.14");
        assert_eq!(nvidia.reason("conv_grad_weight/x=1x1x1x1"), Some("driver bug"));
        assert_eq!(nvidia.reason("conv/x=1x1x1x1"), None);
        assert_eq!(nvidia.reason("step/dcgan-fast"), None);
        assert_eq!(known.of_device(0x10de, "NVIDIA GeForce", "NVIDIA 551.1").reason("conv_grad_weight/"), None);
        assert_eq!(known.of_device(0x1002, "any", "any").reason("step/dcgan-fast"), Some("all AMD devices"));
    }

    #[test]
    fn a_file_with_an_unknown_key_a_bad_pattern_or_a_bad_vendor_is_rejected() {
        for (text, problem) in [
            ("[[failure]]\ncase = 'x'\nreason = 'r'\nadapter = 'y'", "adapter"),
            ("[[failure]]\ncase = '('\nreason = 'r'", "\"(\" is not a regular expression"),
            ("[[failure]]\ncase = 'x'", "reason"),
            ("[[failure]]\nvendor = 'NVIDIA'\ncase = 'x'\nreason = 'r'", "not a PCI number"),
        ] {
            let error = KnownFailures::parse(text).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
