//! The one error type of the library.
//!
//! An [`Error`] says what was being done, to what, and what the kernel or the
//! reader of the configuration answered. It is made where the failure is seen
//! and read by a person at the edge; nothing between logs it.
//!
//! Text: lower case, no full stop, names in double quotes. `Display` prints the
//! whole line, because callers that match on text read one line only.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a program may want to tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The bundle, `config.json` or an option says something that can never work.
    InvalidConfig,
    /// A feature that this build or this host does not have.
    Unsupported,
    /// A container, file or executable does not exist.
    NotFound,
    /// A container with that id exists.
    AlreadyExists,
    /// The container is not in a state that allows the operation.
    WrongState,
    /// The kernel or an LSM refused.
    Permission,
    /// Any other answer of the kernel.
    Os,
    /// A hook failed or ran out of time.
    Hook,
    /// A cgroup could not be made, written or removed.
    Cgroup,
    /// A deadline passed.
    Timeout,
    /// The caller wanted no more of it.
    Interrupted,
    /// The init stage died before it reported.
    ChildDied,
    /// A state file or a message of the stage that this version can't read.
    Internal,
}

/// Where something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// A JSON pointer (RFC 6901) into `config.json`.
    Config(String),
    /// A JSON pointer into the process that is executed in a container.
    Process(String),
    /// A path on the host.
    Path(PathBuf),
}

/// Text with its control characters escaped: a name of the config may have a line
/// break in it, an error may not.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in self.0.split_inclusive(char::is_control) {
            let text = piece.trim_end_matches(char::is_control);
            write!(f, "{text}{}", piece[text.len()..].escape_default())?;
        }
        Ok(())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // RFC 6901: the whole of it.
            Self::Config(pointer) if pointer.is_empty() => f.write_str("config.json"),
            Self::Config(pointer) => write!(f, "config.json: {}", OneLine(pointer)),
            Self::Process(pointer) if pointer.is_empty() => f.write_str("process"),
            Self::Process(pointer) => write!(f, "process: {}", OneLine(pointer)),
            Self::Path(path) => write!(f, "{:?}", path),
        }
    }
}

/// One failure: what was being done, where, and why it did not work.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    doing: Cow<'static, str>,
    place: Option<Place>,
    errno: Option<i32>,
    hint: Option<Cow<'static, str>>,
}

impl Error {
    /// A failure without an errno: `doing` is the whole sentence.
    #[must_use]
    pub fn new(kind: Kind, doing: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner { kind, doing: doing.into(), place: None, errno: None, hint: None }))
    }

    /// Something in `config.json` that can't work; `pointer` is its JSON pointer.
    #[must_use]
    pub fn config(pointer: impl Into<String>, what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::InvalidConfig, what).at(Place::Config(pointer.into()))
    }

    /// A field of `config.json` that this version does not carry out.
    #[must_use]
    pub fn unsupported(pointer: impl Into<String>, what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Unsupported, what).at(Place::Config(pointer.into()))
    }

    /// An answer of the kernel. The kind follows from the errno.
    #[must_use]
    pub fn os(errno: i32, doing: impl Into<Cow<'static, str>>) -> Self {
        let kind = match errno {
            libc::EPERM | libc::EACCES => Kind::Permission,
            libc::ENOENT => Kind::NotFound,
            libc::ENOSYS | libc::EOPNOTSUPP => Kind::Unsupported,
            libc::ETIMEDOUT => Kind::Timeout,
            _ => Kind::Os,
        };
        let mut error = Self::new(kind, doing);
        error.0.errno = Some(errno);
        error
    }

    /// An answer of the kernel that reached us as an [`std::io::Error`].
    #[must_use]
    pub fn io(source: &std::io::Error, doing: impl Into<Cow<'static, str>>) -> Self {
        match source.raw_os_error() {
            Some(errno) => Self::os(errno, doing),
            None => Self::new(Kind::Os, format!("{}: {source}", doing.into())),
        }
    }

    /// Several failures as one: the first one's kind and place, the texts of as many as
    /// a person reads, and how many there are more.
    #[must_use]
    pub fn all(errors: impl IntoIterator<Item = Self>) -> Self {
        let mut errors = errors.into_iter();
        let Some(first) = errors.next() else {
            return Self::new(Kind::Internal, "an error without a reason");
        };
        let kind = first.kind();
        let Some(second) = errors.next() else { return first };
        let texts = [first, second].into_iter().chain(errors).map(|error| error.to_string());
        Self::new(kind, listed(texts, "; "))
    }

    /// The same failure, with its place.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.0.place = Some(place);
        self
    }

    /// The same failure, at a path of the host.
    #[must_use]
    pub fn at_path(self, path: impl AsRef<Path>) -> Self {
        self.at(Place::Path(path.as_ref().to_path_buf()))
    }

    /// The same failure of a process that is executed in a container: it is a document of
    /// its own, whose fields were taken for those below `prefix` of a config.
    #[must_use]
    pub(crate) fn of_process(mut self, prefix: &str) -> Self {
        if let Some(Place::Config(pointer)) = &self.0.place
            && let Some(pointer) = pointer.strip_prefix(prefix)
        {
            self.0.place = Some(Place::Process(pointer.to_owned()));
        }
        self
    }

    /// The same failure under another kind.
    #[must_use]
    pub fn of_kind(mut self, kind: Kind) -> Self {
        self.0.kind = kind;
        self
    }

    /// The same failure, with a word on what a person can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// What a program may want to tell apart.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Where it is wrong, when that is known.
    #[must_use]
    pub fn place(&self) -> Option<&Place> {
        self.0.place.as_ref()
    }

    /// The kernel's answer, when it was the kernel that refused.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.0.errno
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { doing, place, errno, hint, .. } = &*self.0;
        OneLine(doing).fmt(f)?;
        match place {
            Some(place @ (Place::Config(_) | Place::Process(_))) => write!(f, " ({place})")?,
            Some(place @ Place::Path(_)) => write!(f, " {place}")?,
            None => {}
        }
        if let Some(errno) = errno {
            write!(f, ": {}", errno_text(*errno))?;
        }
        if let Some(hint) = hint {
            write!(f, " ({})", OneLine(hint))?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Parts of one line, as many as a person reads: a config may have any number of them,
/// and the line goes into logs and through engines.
pub(crate) fn listed(
    parts: impl IntoIterator<Item = impl AsRef<str>>,
    separator: &'static str,
) -> String {
    const MOST: usize = 32;
    let mut parts = parts.into_iter();
    let mut text = String::new();
    for (index, part) in parts.by_ref().take(MOST).enumerate() {
        text.push_str(if index == 0 { "" } else { separator });
        text.push_str(part.as_ref());
    }
    match parts.count() {
        0 => text,
        more => format!("{text}{separator}and {more} more"),
    }
}

/// A text that others wrote, for the words of an error: cut where it would bury them.
pub(crate) fn excerpt(text: &str) -> Cow<'_, str> {
    const MOST: usize = 1024;
    if text.len() <= MOST {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{}...", &text[..text.floor_char_boundary(MOST)]))
}

/// The text of an errno, in lower case.
///
/// COMPAT(runc): engines look for "no such file or directory" and "permission
/// denied" in lower case, as Go prints them. Its words are glibc's, and people search
/// for those; the table has the ones that nix says in another way.
#[must_use]
pub fn errno_text(errno: i32) -> String {
    let text = match errno {
        libc::EIO => "input/output error",
        libc::EBADF => "bad file descriptor",
        libc::EAGAIN => "resource temporarily unavailable",
        libc::ENOMEM => "cannot allocate memory",
        libc::EXDEV => "invalid cross-device link",
        libc::ENFILE => "too many open files in system",
        libc::ENOTTY => "inappropriate ioctl for device",
        libc::EDOM => "numerical argument out of domain",
        libc::ERANGE => "numerical result out of range",
        libc::EDEADLK => "resource deadlock avoided",
        libc::ENOLCK => "no locks available",
        libc::ELOOP => "too many levels of symbolic links",
        libc::EBADMSG => "bad message",
        libc::EILSEQ => "invalid or incomplete multibyte or wide character",
        libc::EOPNOTSUPP => "operation not supported",
        libc::ENETRESET => "network dropped connection on reset",
        libc::EDQUOT => "disk quota exceeded",
        _ => match Errno::from_raw(errno) {
            // The kernel's own, which was not meant for programs: 524 is one.
            Errno::UnknownErrno => return format!("errno {errno}"),
            known => return known.desc().to_lowercase(),
        },
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_names_the_act_the_place_and_the_errno() {
        let error = Error::os(libc::EINVAL, "mounting tmpfs on \"/dev/shm\"")
            .at(Place::Config("/mounts/3".into()))
            .hint("size= wants a number");
        assert_eq!(
            error.to_string(),
            "mounting tmpfs on \"/dev/shm\" (config.json: /mounts/3): invalid argument \
             (size= wants a number)"
        );
    }

    #[test]
    fn what_is_wrong_with_all_of_a_config_has_no_empty_place() {
        assert_eq!(Error::config("", "too much").to_string(), "too much (config.json)");
    }

    #[test]
    fn a_line_break_in_a_name_is_none_in_the_error() {
        let error = Error::config("/a\nb", "no kind \"x\ny\u{1b}[2Jé\"").hint("a\tb");
        assert_eq!(error.to_string(), "no kind \"x\\ny\\u{1b}[2Jé\" (config.json: /a\\nb) (a\\tb)");
    }

    #[test]
    fn an_errno_has_the_words_that_people_search_for() {
        for (errno, text) in [
            (libc::ENOENT, "no such file or directory"),
            (libc::EACCES, "permission denied"),
            (libc::EINVAL, "invalid argument"),
            (libc::ERANGE, "numerical result out of range"),
            (libc::ELOOP, "too many levels of symbolic links"),
            (524, "errno 524"),
        ] {
            assert_eq!(errno_text(errno), text);
        }
    }

    #[test]
    fn of_many_failures_the_first_are_told_and_the_others_counted() {
        let errors = |count| (0..count).map(|index| Error::config(format!("/{index}"), "no"));
        assert_eq!(Error::all(errors(2)).to_string(), "no (config.json: /0); no (config.json: /1)");
        let text = Error::all(errors(100_000)).to_string();
        assert!(text.starts_with("no (config.json: /0); no (config.json: /1); "), "{text}");
        assert!(text.ends_with("; no (config.json: /31); and 99968 more"), "{text}");
        let one = Error::all(errors(1));
        assert_eq!(one.place(), Some(&Place::Config("/0".into())));
    }

    #[test]
    fn a_long_text_is_cut_between_two_characters() {
        let text = format!("x{}", "é".repeat(512));
        assert_eq!(excerpt(&text[..1023]), &text[..1023]);
        assert_eq!(excerpt(&text), format!("{}...", &text[..1023]));
    }

    #[test]
    fn the_kind_follows_from_the_errno() {
        assert_eq!(Error::os(libc::EACCES, "x").kind(), Kind::Permission);
        assert_eq!(Error::os(libc::ENOENT, "x").kind(), Kind::NotFound);
        assert_eq!(Error::os(libc::EBUSY, "x").kind(), Kind::Os);
    }

    #[test]
    fn an_error_is_one_word_wide_and_can_cross_threads() {
        fn crosses<T: Send + Sync + 'static>() {}
        crosses::<Error>();
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }
}
