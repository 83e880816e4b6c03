//! What this process has cost so far: memory, processor time, bytes written; and what a directory takes.

use crate::Result;
use rustix::time::{ClockId, clock_gettime};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

fn read(file: &str) -> Result<String> {
    std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))
}

fn number(text: &str, name: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or(format!("no {name}"))?;
    line.trim().trim_end_matches(" kB").parse().map_err(|_| format!("{name} {line} is no number"))
}

/// Returns the most memory that was resident at once, in bytes.
pub fn peak_bytes() -> Result<u64> {
    Ok(number(&read("/proc/self/status")?, "VmHWM:")? << 10)
}

/// Makes the peak what is resident now.
pub fn forget_peak() -> Result<()> {
    const RESET_PEAK: &str = "5";
    std::fs::write("/proc/self/clear_refs", RESET_PEAK).map_err(|error| format!("clear_refs: {error}"))
}

/// Returns the processor time of all threads.
pub fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Returns how many bytes were sent towards the disk: a page counts when it becomes dirty, once until it is written.
pub fn written_bytes() -> Result<u64> {
    number(&read("/proc/self/io")?, "write_bytes:")
}

/// Waits until the process neither computes nor writes, for two minutes at most.
pub fn wait_until_quiet() -> Result<()> {
    const POLL: Duration = Duration::from_millis(50);
    const POLLS: u32 = 8;
    const CPU_MAX: Duration = Duration::from_millis(1);
    let end = Instant::now() + Duration::from_secs(120);
    let (mut calm, mut last) = (0, (cpu(), written_bytes()?));
    while calm < POLLS && Instant::now() < end {
        std::thread::sleep(POLL);
        let now = (cpu(), written_bytes()?);
        calm = if now.0 - last.0 <= CPU_MAX && now.1 == last.1 { calm + 1 } else { 0 };
        last = now;
    }
    Ok(())
}

/// Returns the bytes of all files below `dir`: of each its length, or what is allocated if that is less.
pub fn disk_bytes(dir: &Path) -> Result<u64> {
    const BLOCK_BYTES: u64 = 512;
    let text = |error: std::io::Error| format!("{}: {error}", dir.display());
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir).map_err(text)? {
        let entry = entry.map_err(text)?;
        let status = entry.metadata().map_err(text)?;
        bytes += match status.is_dir() {
            true => disk_bytes(&entry.path())?,
            false => status.len().min(status.blocks() * BLOCK_BYTES),
        };
    }
    Ok(bytes)
}
