//! The memory that the program may use: the smaller of the machine's available memory and the limit of its container.

use std::fs;
use std::path::{Path, PathBuf};

/// The folder of control groups on Linux.
const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// Bytes of memory available without swapping: the smaller of the machine's available memory and the unused part of the limits of
/// its control groups (cgroup v1 or v2). If both are unknown, the whole address space.
pub(crate) fn available() -> u64 {
    let of_machine = machine_memory().unwrap_or(isize::MAX as u64);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    cgroup_memory(Path::new(CGROUP_ROOT), &groups).map_or(of_machine, |of_group| of_group.min(of_machine))
}

/// Available memory of the machine, in bytes.
#[cfg(target_os = "linux")]
fn machine_memory() -> Option<u64> {
    mem_available(&fs::read_to_string("/proc/meminfo").ok()?)
}

/// Available memory of the machine, in bytes.
#[cfg(not(target_os = "linux"))]
fn machine_memory() -> Option<u64> {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    Some(system.available_memory()).filter(|&bytes| bytes > 0)
}

/// `MemAvailable` of the text of `/proc/meminfo`, which counts in KiB.
#[cfg(any(target_os = "linux", test))]
fn mem_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Bytes that the control groups below `root` leave to this process. `groups` is the text of `/proc/self/cgroup`, which names the
/// groups of the process. The limit of a group also applies to the groups inside it, so the smallest one counts. A container often
/// sees its own group as the root.
fn cgroup_memory(root: &Path, groups: &str) -> Option<u64> {
    let mut folders = vec![(root.to_path_buf(), ["memory.max", "memory.current"])];
    folders.push((root.join("memory"), ["memory.limit_in_bytes", "memory.usage_in_bytes"]));
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let (base, files) = match controllers {
            "" => (root.to_path_buf(), ["memory.max", "memory.current"]),
            names if names.split(',').any(|name| name == "memory") => {
                (root.join("memory"), ["memory.limit_in_bytes", "memory.usage_in_bytes"])
            }
            _ => continue,
        };
        folders.extend(ancestors(&base, path).map(|folder| (folder, files)));
    }
    folders.iter().filter_map(|(folder, [limit, usage])| left_in(folder, limit, usage)).min()
}

/// The folder of a group and of each group around it.
fn ancestors(base: &Path, path: &str) -> impl Iterator<Item = PathBuf> {
    let path = PathBuf::from(path.trim_start_matches('/'));
    let base = base.to_path_buf();
    let all: Vec<_> = path.ancestors().map(|part| base.join(part)).collect();
    all.into_iter()
}

/// The limit of a group minus its usage; `None` without a limit. `usage` includes cached file pages that can be dropped, so they are
/// subtracted if the group reports them.
fn left_in(folder: &Path, limit: &str, usage: &str) -> Option<u64> {
    let number = |name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    let limit = number(limit).filter(|&limit| limit < i64::MAX as u64 / 2)?; // "max", or v1's largest number
    let statistics = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let inactive = statistics.lines().find_map(|line| line.strip_prefix("inactive_file ")?.trim().parse::<u64>().ok());
    let used = number(usage).unwrap_or(0).saturating_sub(inactive.unwrap_or(0));
    Some(limit.saturating_sub(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_from_proc_meminfo() {
        let meminfo = "MemTotal:        4015232 kB\nMemFree:          262144 kB\nMemAvailable:    3145728 kB\n";
        assert_eq!(mem_available(meminfo), Some(3 << 30));
        assert_eq!(mem_available(""), None);
        assert_eq!(mem_available("MemAvailable: 99999999999999999999 kB"), None);
    }

    /// A folder like `/sys/fs/cgroup`.
    fn groups(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn a_container_that_sees_its_own_group_as_the_root_is_limited() {
        let root = groups(&[("memory.max", "536870912\n"), ("memory.current", "10000000\n")]);
        assert_eq!(cgroup_memory(root.path(), "0::/\n"), Some(526_870_912));
        assert_eq!(cgroup_memory(root.path(), ""), Some(526_870_912));
        let root = groups(&[("memory/memory.limit_in_bytes", "1000\n"), ("memory/memory.usage_in_bytes", "400\n")]);
        assert_eq!(cgroup_memory(root.path(), "4:memory:/docker/1\n"), Some(600));
    }

    #[test]
    fn the_smallest_limit_of_all_parent_groups_counts() {
        let root = groups(&[
            ("memory.max", "max\n"),
            ("user.slice/memory.max", "1000\n"),
            ("user.slice/memory.current", "900\n"),
            ("user.slice/job/memory.max", "800\n"),
            ("user.slice/job/memory.current", "200\n"),
            ("other/memory.max", "1\n"),
        ]);
        assert_eq!(cgroup_memory(root.path(), "0::/user.slice/job\n"), Some(100));
        let root = groups(&[
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/slurm/job/memory.limit_in_bytes", "5000\n"),
            ("memory/slurm/job/memory.usage_in_bytes", "4000\n"),
            ("memory/slurm/job/memory.stat", "cache 9\ninactive_file 3000\n"),
        ]);
        assert_eq!(cgroup_memory(root.path(), "3:cpu,cpuacct:/x\n5:memory:/slurm/job\n"), Some(4000));
    }

    #[test]
    fn without_limits_the_machines_memory_counts() {
        assert_eq!(cgroup_memory(groups(&[("memory.max", "max\n")]).path(), "0::/\n"), None);
        assert_eq!(cgroup_memory(Path::new("/does/not/exist"), "0::/a/b\nnonsense\n"), None);
        assert!(available() > 0);
    }
}
