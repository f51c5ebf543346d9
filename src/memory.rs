//! How much memory there is.

/// Bytes that can be had: what Linux says can be had without swapping, and elsewhere all that can be addressed.
pub(crate) fn available() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    mem_available(&meminfo).unwrap_or(isize::MAX as u64)
}

/// `MemAvailable` of the text of `/proc/meminfo`, which counts in KiB.
fn mem_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_where_linux_tells_it() {
        let meminfo = "MemTotal:        4015232 kB\nMemFree:          262144 kB\nMemAvailable:    3145728 kB\n";
        assert_eq!(mem_available(meminfo), Some(3 << 30));
        assert_eq!(mem_available(""), None);
    }
}
