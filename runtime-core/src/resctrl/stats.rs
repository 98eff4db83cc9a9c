//! What a class gets of the processor and, where it counts, what was used.
//!
//! COMPAT(runc): the names, and what is left out, are those of the statistics that
//! `runc events` prints.

use std::fs;
use std::path::Path;
use std::str::FromStr;

use serde::Serialize;

use crate::error::{Error, Kind, Result};

/// Statistics of a class of service (Linux, filesystems/resctrl.rst); all of it is
/// missing for a container that has none, and half of it with each thing that the
/// processor can't do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// How the L3 cache is shared out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_info: Option<CacheInfo>,
    /// The `L3:` line of the first class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_schema_root: Option<String>,
    /// The `L3:` line of the container's class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_schema: Option<String>,
    /// How memory bandwidth is shared out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_info: Option<BandwidthInfo>,
    /// The `MB:` line of the first class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_schema_root: Option<String>,
    /// The `MB:` line of the container's class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_schema: Option<String>,
    /// Every line of the container's class.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schemata: Vec<String>,
    /// Memory traffic, an entry for each L3 cache: of the container's monitoring group,
    /// or of everybody in its class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mbm_stats: Option<Vec<Traffic>>,
    /// The cache in use, by the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmt_stats: Option<Vec<Occupancy>>,
}

/// How the L3 cache is shared out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CacheInfo {
    /// All parts that there are, a bit each, in hexadecimal.
    pub cbm_mask: String,
    /// The fewest bits that a class may have.
    #[serde(skip_serializing_if = "is_zero")]
    pub min_cbm_bits: u64,
    /// How many classes there can be.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_closids: u64,
}

/// How memory bandwidth is shared out; in per cent, unless resctrl was mounted to count
/// megabytes a second.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BandwidthInfo {
    /// From one share to the next.
    #[serde(skip_serializing_if = "is_zero")]
    pub bandwidth_gran: u64,
    /// 1: the delay grows as the share falls.
    #[serde(skip_serializing_if = "is_zero")]
    pub delay_linear: u64,
    /// The smallest share.
    #[serde(skip_serializing_if = "is_zero")]
    pub min_bandwidth: u64,
    /// How many classes there can be.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_closids: u64,
}

/// Bytes between an L3 cache and memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// All of them.
    pub mbm_total_bytes: u64,
    /// Those of the cache's own node.
    pub mbm_local_bytes: u64,
}

/// Bytes in an L3 cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Occupancy {
    /// All of them.
    pub llc_occupancy: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's to say
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Stats {
    /// Reads those of `class`, and what `counted` counts.
    pub(super) fn read(mount: &Path, class: &Path, counted: &Path) -> Result<Self> {
        let schemata = lines(&class.join("schemata"))?;
        let root = lines(&mount.join("schemata"))?;
        let mut stats = Self::default();
        let info = mount.join("info");
        // A cache that is shared out to code and data apart has other names.
        let cache = info.join("L3");
        if cache.exists() {
            stats.l3_cache_info = Some(CacheInfo {
                cbm_mask: text(&cache.join("cbm_mask"))?,
                min_cbm_bits: number(&cache.join("min_cbm_bits"))?,
                num_closids: number(&cache.join("num_closids"))?,
            });
            stats.l3_cache_schema_root = of(&root, "L3");
            stats.l3_cache_schema = of(&schemata, "L3");
        }
        let bandwidth = info.join("MB");
        if bandwidth.exists() {
            stats.mem_bw_info = Some(BandwidthInfo {
                bandwidth_gran: number(&bandwidth.join("bandwidth_gran"))?,
                delay_linear: number(&bandwidth.join("delay_linear"))?,
                min_bandwidth: number(&bandwidth.join("min_bandwidth"))?,
                num_closids: number(&bandwidth.join("num_closids"))?,
            });
            stats.mem_bw_schema_root = of(&root, "MB");
            stats.mem_bw_schema = of(&schemata, "MB");
        }
        stats.schemata = schemata;
        let counts = info.join("L3_MON/mon_features");
        if counts.exists() {
            stats.count(&lines(&counts)?, &counted.join("mon_data"))?;
        }
        Ok(stats)
    }

    /// Adds up nothing: each cache has an entry, in the order of their names.
    fn count(&mut self, features: &[String], data: &Path) -> Result<()> {
        let has = |name: &str| features.iter().any(|feature| feature == name);
        let mut caches = Vec::new();
        let unread = |error| Error::io(&error, "reading").at_path(data);
        for entry in fs::read_dir(data).map_err(unread)? {
            let entry = entry.map_err(unread)?;
            if entry.file_type().map_err(unread)?.is_dir() {
                caches.push(entry.path());
            }
        }
        caches.sort();
        let each = |cache: &Path, name: &str| match has(name) {
            true => number(&cache.join(name)),
            false => Ok(0),
        };
        if has("mbm_total_bytes") || has("mbm_local_bytes") {
            let traffic = |cache: &std::path::PathBuf| {
                Ok(Traffic {
                    mbm_total_bytes: each(cache, "mbm_total_bytes")?,
                    mbm_local_bytes: each(cache, "mbm_local_bytes")?,
                })
            };
            self.mbm_stats = Some(caches.iter().map(traffic).collect::<Result<_>>()?);
        }
        if has("llc_occupancy") {
            let occupancy = |cache: &std::path::PathBuf| {
                Ok(Occupancy { llc_occupancy: each(cache, "llc_occupancy")? })
            };
            self.cmt_stats = Some(caches.iter().map(occupancy).collect::<Result<_>>()?);
        }
        Ok(())
    }
}

/// The line of a resource.
fn of(schemata: &[String], resource: &str) -> Option<String> {
    let is = |line: &&String| line.split_once(':').is_some_and(|(name, _)| name == resource);
    schemata.iter().find(is).cloned()
}

fn lines(path: &Path) -> Result<Vec<String>> {
    Ok(text(path)?.lines().map(|line| line.trim().to_owned()).collect())
}

fn text(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path);
    text.map(|text| text.trim().to_owned())
        .map_err(|error| Error::io(&error, "reading").at_path(path))
}

/// The kernel may say `Unavailable` or `Error` in the place of a count.
fn number(path: &Path) -> Result<u64> {
    let text = text(path)?;
    u64::from_str(&text).map_err(|_| {
        Error::new(Kind::Cgroup, format!("reading a number: it says {text:?}")).at_path(path)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        }
    }

    fn read(root: &Path) -> Result<serde_json::Value> {
        let class = root.join("gold");
        let stats = Stats::read(root, &class, &class.join("mon_groups/c1"))?;
        Ok(serde_json::to_value(stats).expect("JSON"))
    }

    #[test]
    fn only_what_the_processor_can_do_is_told() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path();
        write(root, &[("schemata", "    L2:0=ff\n"), ("gold/schemata", "    L2:0=f\n")]);
        assert_eq!(read(root).expect("read"), json!({"schemata": ["L2:0=f"]}));
        write(
            root,
            &[
                ("info/L3_MON/mon_features", "llc_occupancy\nmbm_local_bytes\nnew_one\n"),
                ("gold/mon_groups/c1/mon_data/mon_L3_01/llc_occupancy", "7\n"),
                ("gold/mon_groups/c1/mon_data/mon_L3_01/mbm_local_bytes", "8\n"),
                ("gold/mon_groups/c1/mon_data/mon_L3_00/llc_occupancy", "5\n"),
                ("gold/mon_groups/c1/mon_data/mon_L3_00/mbm_local_bytes", "6\n"),
            ],
        );
        let counted = json!({
            "schemata": ["L2:0=f"],
            "mbm_stats": [
                {"mbm_total_bytes": 0, "mbm_local_bytes": 6},
                {"mbm_total_bytes": 0, "mbm_local_bytes": 8},
            ],
            "cmt_stats": [{"llc_occupancy": 5}, {"llc_occupancy": 7}],
        });
        assert_eq!(read(root).expect("read"), counted);
    }

    #[test]
    fn a_count_that_is_none_is_an_error() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let count = "gold/mon_groups/c1/mon_data/mon_L3_00/llc_occupancy";
        write(
            folder.path(),
            &[
                ("schemata", ""),
                ("gold/schemata", ""),
                ("info/L3_MON/mon_features", "llc_occupancy\n"),
                (count, "Unavailable\n"),
            ],
        );
        let error = read(folder.path()).expect_err("no number").to_string();
        assert!(error.contains("\"Unavailable\"") && error.contains(count), "{error}");
    }
}
