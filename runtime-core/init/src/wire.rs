//! What travels between the stage and the launcher: one datagram a message over
//! a `SOCK_SEQPACKET` pair, or through a FIFO after the start, small and of fixed
//! form.
//!
//! ```text
//! kind | op | part | errno or number | text ...      (32-bit words, then bytes)
//! ```
//! A gate's text, and that of `Mounted`, is a list of mounts ([`Told`]).
//! The launcher's only word is one byte, [`GO`].

use crate::sys::abi::{self, Statx};

/// The launcher's word: go on.
pub const GO: u8 = b'g';
/// Bytes before the text.
pub const HEAD: usize = 16;
/// Longest text that travels; longer ones are cut.
pub const TEXT_MAX: usize = 1024;

/// What a message of the stage says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum MessageKind {
    /// A gate is reached; `number` is the gate, and `part` the descriptor of the
    /// listener or the tree.
    Gate = 1,
    /// An op failed.
    Failure = 2,
    /// The init process has been cloned; its pidfd is attached.
    Init = 3,
    /// Nothing is left to be done but to execute the program. If the other end
    /// closes after this word it was; without it, the stage died.
    Leaving = 4,
    /// What has been mounted, or taken away, for which the next word has no room.
    Mounted = 5,
}

/// Which part of an op failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs)] // the texts are in the launcher, beside their only reader
pub enum Part {
    Whole = 0,
    Decode = 1,
    Resolve = 2,
    Create = 3,
    OpenFs = 4,
    Configure = 5,
    CreateFs = 6,
    MakeMount = 7,
    Attach = 8,
    SetAttributes = 9,
    NotDirectory = 10,
    InsideProc = 11,
    NotProc = 12,
    Open = 13,
    Verify = 14,
    Write = 15,
    Start = 16,
    Died = 17,
    TimedOut = 18,
    OutsideRoot = 19,
    Groups = 20,
    Group = 21,
    User = 22,
    Peer = 23,
    Send = 24,
    NotFoundInPath = 25,
    IsDirectory = 26,
    Copy = 27,
    Gone = 28,
    ExecFormat = 29,
    Interpreter = 30,
    Drop = 31,
    Propagate = 32,
    Dangling = 33,
    Clone = 34,
    Covered = 35,
    GroupsDenied = 36,
}

const LAST_PART: u32 = Part::GroupsDenied as u32;

impl Part {
    /// All parts, in the order of their numbers.
    pub const ALL: [Self; LAST_PART as usize + 1] = [
        Self::Whole,
        Self::Decode,
        Self::Resolve,
        Self::Create,
        Self::OpenFs,
        Self::Configure,
        Self::CreateFs,
        Self::MakeMount,
        Self::Attach,
        Self::SetAttributes,
        Self::NotDirectory,
        Self::InsideProc,
        Self::NotProc,
        Self::Open,
        Self::Verify,
        Self::Write,
        Self::Start,
        Self::Died,
        Self::TimedOut,
        Self::OutsideRoot,
        Self::Groups,
        Self::Group,
        Self::User,
        Self::Peer,
        Self::Send,
        Self::NotFoundInPath,
        Self::IsDirectory,
        Self::Copy,
        Self::Gone,
        Self::ExecFormat,
        Self::Interpreter,
        Self::Drop,
        Self::Propagate,
        Self::Dangling,
        Self::Clone,
        Self::Covered,
        Self::GroupsDenied,
    ];
}

/// A message of the stage, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// What it says.
    pub kind: MessageKind,
    /// The op that was running.
    pub op: u32,
    /// For a failure its [`Part`], for a gate that is about one the descriptor.
    pub part: u32,
    /// For a failure the errno, for a gate its number, for the init its pid.
    pub number: i32,
    /// The one string known only at run time; may be empty.
    pub text: &'a [u8],
}

impl<'a> Message<'a> {
    /// Writes it into `buffer`; returns how many bytes it takes.
    pub fn write(&self, buffer: &mut [u8; HEAD + TEXT_MAX]) -> usize {
        let words = [self.kind as u32, self.op, self.part, self.number.cast_unsigned()];
        for (place, word) in buffer.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        let mut length = HEAD;
        for (place, byte) in buffer.iter_mut().skip(HEAD).zip(self.text) {
            *place = *byte;
            length += 1;
        }
        length
    }

    /// Reads one, or `None` when it is not one of ours.
    #[must_use]
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let word = |i: usize| bytes.get(i * 4..i * 4 + 4)?.try_into().ok().map(u32::from_ne_bytes);
        let kind = match word(0)? {
            1 => MessageKind::Gate,
            2 => MessageKind::Failure,
            3 => MessageKind::Init,
            4 => MessageKind::Leaving,
            5 => MessageKind::Mounted,
            _ => return None,
        };
        let text = bytes.get(HEAD..)?;
        Some(Self { kind, op: word(1)?, part: word(2)?, number: word(3)?.cast_signed(), text })
    }
}

/// A mount as the kernel tells it from all others (statx(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MountId {
    /// `stx_mnt_id`, of the kind that is never given to another mount.
    /// KERNEL(<6.8): another's when the mount is gone.
    pub mount: u64,
    /// There, its root's inode; else 0.
    pub inode: u64,
    /// There, its root's device, major and minor number; else 0.
    pub device: u64,
}

/// Bytes of a [`MountId`].
pub const MOUNT_ID: usize = 24;

impl MountId {
    /// That of the mount through which this was seen.
    #[must_use]
    pub fn of(stat: &Statx) -> Self {
        let mount = stat.mount;
        if stat.mask & abi::STATX_MNT_ID_UNIQUE != 0 {
            return Self { mount, ..Self::default() };
        }
        let device = u64::from(stat.dev_major) << 32 | u64::from(stat.dev_minor);
        Self { mount, inode: stat.inode, device }
    }

    /// It as bytes.
    #[must_use]
    pub fn bytes(&self) -> [u8; MOUNT_ID] {
        let mut bytes = [0; MOUNT_ID];
        let words = [self.mount, self.inode, self.device];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    /// The one in these bytes.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes);
        Some(Self { mount: word(0)?, inode: word(8)?, device: word(16)? })
    }
}

/// Bytes of one entry in a list: the op, and what it has mounted or taken away.
const ENTRY: usize = 4 + MOUNT_ID;

/// A list of mounts on its way to the launcher.
pub struct Told {
    bytes: [u8; TEXT_MAX],
    length: usize,
}

impl Told {
    /// An empty one.
    pub const NONE: Self = Self { bytes: [0; TEXT_MAX], length: 0 };

    /// Appends an entry; false if there is no room.
    pub fn push(&mut self, op: u32, id: &MountId) -> bool {
        let Some(place) = self.bytes.get_mut(self.length..self.length + ENTRY) else {
            return false;
        };
        let (number, mount) = place.split_at_mut(4);
        number.copy_from_slice(&op.to_ne_bytes());
        mount.copy_from_slice(&id.bytes());
        self.length += ENTRY;
        true
    }

    /// What a message carries of it.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Forgets what has been told.
    pub fn clear(&mut self) {
        self.length = 0;
    }
}

/// The entries of such a list.
pub fn told(text: &[u8]) -> impl Iterator<Item = (u32, MountId)> + '_ {
    text.chunks_exact(ENTRY).filter_map(|entry| {
        let (number, mount) = entry.split_at_checked(4)?;
        Some((u32::from_ne_bytes(number.try_into().ok()?), MountId::read(mount)?))
    })
}
