//! Names that become part of what CRIU is told. PURE.
//!
//! CRIU keeps an external mount as `mnt[KEY]:NAME`, in one string with others of that
//! form: a key with `]:` in it would end early, and what follows would be another
//! mount's (CVE-2026-119101). Nothing is escaped, because CRIU knows no escape: what
//! could be read in two ways is refused.

use crate::error::{Error, Kind, Result};

/// A name of a mount, in the container or on the host.
pub(crate) fn mount(name: &str) -> Result<&str> {
    let odd = name.contains("]:") || name.chars().any(char::is_control);
    check(name, !name.starts_with('/') || odd, "can't be told to criu as the name of a mount")
}

/// A path of the host's that is sent as such.
pub(crate) fn path<'a>(name: &'a str, of: &str) -> Result<&'a str> {
    let odd = !name.starts_with('/') || name.chars().any(char::is_control);
    check(
        name,
        odd,
        &format!(
            "can't be told to criu as the path of {of}: not absolute, or with control characters"
        ),
    )
}

/// What a standard stream was when it was dumped, as descriptors.json has it: a pipe
/// that others hold the other end of, or something that CRIU opens by itself.
pub(crate) fn pipe(name: &str) -> Result<Option<&str>> {
    if !name.contains("pipe:") {
        return Ok(None);
    }
    let number = name.strip_prefix("pipe:[").and_then(|rest| rest.strip_suffix(']'));
    let sound = number.is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    check(name, !sound, "is no name of a pipe").map(Some)
}

/// `TYPE:NAME`
pub(crate) fn lsm_profile(name: &str) -> Result<&str> {
    let parts = name.split_once(':');
    let sound = parts
        .is_some_and(|(kind, label)| matches!(kind, "apparmor" | "selinux") && !label.is_empty());
    let odd = !sound || name.chars().any(char::is_control);
    check(name, odd, "is no profile of the form apparmor:NAME or selinux:LABEL")
}

/// A label that becomes a mount option, which a quote or a control character would end.
pub(crate) fn mount_context(name: &str) -> Result<&str> {
    let odd = name.is_empty() || name.contains('"') || name.chars().any(char::is_control);
    check(name, odd, "is no label for mounts")
}

fn check<'a>(name: &'a str, odd: bool, what: &str) -> Result<&'a str> {
    if odd {
        return Err(Error::new(Kind::InvalidConfig, format!("{name:?} {what}")));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_criu_would_read_as_two_is_refused() {
        for name in ["/a", "/a b", "/a]", "/a[b]c", "/ä:"] {
            assert_eq!(mount(name).unwrap(), name);
        }
        for name in ["", "a", "/a]:/etc", "/a\nb", "/a\0"] {
            let error = mount(name).unwrap_err().to_string();
            assert!(error.contains("can't be told to criu"), "{error}");
        }
        let error = mount("/x]:/etc").unwrap_err().to_string();
        assert_eq!(error, "\"/x]:/etc\" can't be told to criu as the name of a mount");
    }

    #[test]
    fn a_pipe_is_a_number() {
        assert_eq!(pipe("/dev/null").unwrap(), None);
        assert_eq!(pipe("socket:[12]").unwrap(), None);
        assert_eq!(pipe("pipe:[12]").unwrap(), Some("pipe:[12]"));
        for name in ["pipe:[]", "pipe:[1]x", "xpipe:[1]", "pipe:[1]]:x", "pipe:1"] {
            assert!(pipe(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_profile_has_a_type() {
        assert!(lsm_profile("selinux:system_u:system_r:container_t:s0:c82,c137").is_ok());
        assert!(lsm_profile("apparmor:x").is_ok());
        for name in ["", "x", "apparmor:", "other:x", "apparmor:a\nb"] {
            assert!(lsm_profile(name).is_err(), "{name}");
        }
        assert!(mount_context("system_u:object_r:container_file_t:s0:c82,c137").is_ok());
        assert!(mount_context("a\",nosuid").is_err() && mount_context("").is_err());
    }
}
