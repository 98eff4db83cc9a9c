//! Sizes of memory as people write them.

use anyhow::{Context as _, ensure};

/// Bytes in `text`: -1 for no limit, else a number with an optional fraction and
/// suffix: k, m, g, t or p in any case, with `b` or `ib` behind.
///
/// COMPAT(runc): `update --memory` and its kin.
pub(super) fn bytes(text: &str) -> anyhow::Result<i64> {
    if text == "-1" {
        return Ok(-1);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let suffix = suffix.strip_prefix(' ').unwrap_or(suffix).to_ascii_lowercase();
    let power = match suffix.strip_suffix("ib").or(suffix.strip_suffix('b')).unwrap_or(&suffix) {
        "" if suffix != "ib" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => anyhow::bail!("invalid size {text:?}"),
    };
    let number: f64 = number.parse().with_context(|| format!("invalid size {text:?}"))?;
    let bytes = number * 1024_f64.powi(power);
    ensure!(bytes < i64::MAX as f64, "size {text:?} is too large");
    Ok(bytes as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_suffixes() {
        for (text, wanted) in [
            ("0", 0),
            ("-1", -1),
            ("1000", 1000),
            ("32b", 32),
            ("1k", 1024),
            ("1K", 1024),
            ("1kb", 1024),
            ("1KiB", 1024),
            ("32m", 32 << 20),
            ("1.5G", 3 << 29),
            ("2 t", 2 << 40),
            ("1p", 1 << 50),
        ] {
            assert_eq!(bytes(text).unwrap(), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "-2", "x", "1x", "1kk", "1ib", "k", "1.2.3", "99999p", "1 kb x", "-1k"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
