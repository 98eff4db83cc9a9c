//! What runs, and what is kept.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;

use super::cache::Cache;
use super::image;
use super::machine::Machine;
use super::monitor::Monitor;
use super::recipe::{Kernel, Recipe, Which};

/// Both as tables.
///
/// # Errors
/// A machine's record cannot be read.
pub fn list(cache: &Cache) -> Result<String> {
    let images = image::all(cache);
    let mut text = String::new();
    for which in Which::all() {
        let machine = Machine { folder: cache.machine(which), which };
        let Some(running) = machine.running()? else { continue };
        let port = Monitor::connect(&machine.folder).and_then(|mut monitor| monitor.port());
        let port = port.map_or_else(|error| format!("? ({error:#})"), |port| port.to_string());
        let release = images.iter().find(|image| image.name == running.image);
        writeln!(
            text,
            "machine {which}  up {}  {}  pid {}  port {port}  image {}  Linux {}",
            age(running.uptime),
            running.accelerator,
            running.pid,
            running.image,
            release.map_or_else(|| "?".to_owned(), image::Image::release)
        )?;
    }
    for image in &images {
        let current =
            Kernel::ALL.iter().any(|kernel| Recipe { kernel: *kernel }.name() == image.name);
        let word = if current { "" } else { "  of an older recipe" };
        let (size, release) = (image.size() / 1_000_000, image.release());
        writeln!(text, "image {}  {size} MB  Linux {release}{word}", image.name)?;
    }
    if text.is_empty() {
        text.push_str("no machine, no image\n");
    }
    Ok(text)
}

fn age(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        assert_eq!(age(Duration::from_secs(119)), "119 s");
        assert_eq!(age(Duration::from_secs(120)), "2 min");
        assert_eq!(age(Duration::from_secs(7200)), "2 h");
    }

    #[test]
    fn an_empty_cache_is_told_so() {
        let target = tempfile::tempdir().unwrap();
        assert_eq!(list(&Cache::open(target.path()).unwrap()).unwrap(), "no machine, no image\n");
    }
}
