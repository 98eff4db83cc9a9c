//! A resctrl file system for machines without such a processor: the kernel's rules, by
//! FUSE, and a mount table that calls it what it plays.
//!
//! It decides what the kernel would (Documentation/filesystems/resctrl.rst) and knows
//! nothing of containers.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Most classes, the first one included.
const MOST: usize = 3;

/// One class or monitoring group.
#[derive(Debug, Clone, Default)]
pub struct Group {
    /// Processes that were put into it.
    pub tasks: Vec<u32>,
    shares: BTreeMap<String, BTreeMap<String, String>>,
}

impl Group {
    /// As its file says it.
    pub fn schemata(&self) -> String {
        let line = |(resource, shares): (&String, &BTreeMap<String, String>)| {
            let each: Vec<_> = shares.iter().map(|(id, share)| format!("{id}={share}")).collect();
            format!("    {resource}:{}\n", each.join(";"))
        };
        self.shares.iter().map(line).collect()
    }
}

/// All of it: groups by their path, the first class has none.
#[derive(Debug, Default)]
struct Model {
    groups: BTreeMap<String, Group>,
    status: String,
    /// Paths by number, as the kernel knows them.
    nodes: Vec<String>,
}

/// A mounted one.
#[derive(Debug)]
pub struct Resctrl {
    mount: PathBuf,
    table: PathBuf,
    model: Arc<Mutex<Model>>,
    server: Option<JoinHandle<()>>,
}

impl Resctrl {
    /// Whether there is a FUSE for us.
    #[must_use]
    pub fn can_be() -> bool {
        device().is_ok()
    }

    /// Mounts it in a folder, which must be empty of `resctrl` and `mountinfo`.
    ///
    /// # Errors
    /// There is no FUSE, or the caller may not mount.
    pub fn new(folder: &Path) -> std::io::Result<Self> {
        let device = device()?;
        let at = folder.join("resctrl");
        fs::create_dir(&at)?;
        let data = format!("fd={},rootmode=40755,user_id=0,group_id=0", device.as_raw_fd());
        let kind = Some("fuse");
        mount(Some("resctrl"), &at, kind, MsFlags::empty(), Some(&*data))?;
        let model = Arc::new(Mutex::new(Model::new()));
        let served = Arc::clone(&model);
        let server = Some(thread::spawn(move || serve(device, &served)));
        let table = fs::read_to_string("/proc/self/mountinfo")?;
        let place = format!(" {} ", at.display());
        let lines = table.lines().map(|line| match line.contains(&place) {
            true => line.replace(" - fuse ", " - resctrl ") + "\n",
            false => format!("{line}\n"),
        });
        let path = folder.join("mountinfo");
        fs::write(&path, lines.collect::<String>())?;
        Ok(Self { mount: at, table: path, model, server })
    }

    /// What stands before a command for which the mount table says that this is
    /// resctrl.
    #[must_use]
    pub fn before(&self) -> [String; 3] {
        let table = self.table.display();
        let script = format!("mount --bind '{table}' /proc/$$/mountinfo && exec \"$0\" \"$@\"");
        ["/bin/sh".to_owned(), "-c".to_owned(), script]
    }

    /// A class or monitoring group by its path.
    #[must_use]
    pub fn group(&self, path: &str) -> Option<Group> {
        lock(&self.model).groups.get(path).cloned()
    }

    /// The paths of all.
    #[must_use]
    pub fn groups(&self) -> Vec<String> {
        lock(&self.model).groups.keys().cloned().collect()
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.mount
    }
}

fn device() -> std::io::Result<File> {
    File::options().read(true).write(true).open("/dev/fuse")
}

fn lock(model: &Mutex<Model>) -> MutexGuard<'_, Model> {
    model.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Resctrl {
    fn drop(&mut self) {
        // The device tells that by an error. Without it nobody would.
        if umount2(&self.mount, MntFlags::MNT_DETACH).is_ok() {
            self.server.take().map(JoinHandle::join);
        }
    }
}

impl Model {
    fn new() -> Self {
        let mut model = Self { nodes: vec![String::new()], ..Self::default() };
        model.groups.insert(String::new(), everything());
        model
    }

    /// The group that a path is in or is, and the rest of the path.
    fn locate<'a>(&self, path: &'a str) -> (String, &'a str) {
        let mut best = (String::new(), path);
        for name in self.groups.keys().filter(|name| !name.is_empty()) {
            let rest = path.strip_prefix(name.as_str());
            if let Some(rest) = rest.filter(|rest| rest.is_empty() || rest.starts_with('/'))
                && name.len() > best.0.len()
            {
                best = (name.clone(), rest.trim_start_matches('/'));
            }
        }
        best
    }

    /// What a file says; `None` for a directory.
    fn read(&self, path: &str) -> Result<Option<String>, i32> {
        let (group, rest) = self.locate(path);
        let monitors = group.contains("mon_groups");
        let group = &self.groups[&group];
        Ok(match rest {
            "" | "info" | "info/L3" | "info/MB" | "info/L3_MON" | "mon_data" => None,
            "mon_data/mon_L3_00" | "mon_data/mon_L3_01" => None,
            "mon_groups" if !monitors => None,
            "info/last_cmd_status" => Some(format!("{}\n", self.status)),
            "info/L3/cbm_mask" => Some("fffff\n".into()),
            "info/L3/min_cbm_bits" | "info/MB/delay_linear" => Some("1\n".into()),
            "info/MB/bandwidth_gran" | "info/MB/min_bandwidth" => Some("10\n".into()),
            "info/L3/num_closids" | "info/MB/num_closids" => Some(format!("{MOST}\n")),
            "info/L3_MON/mon_features" => {
                Some("llc_occupancy\nmbm_total_bytes\nmbm_local_bytes\n".into())
            }
            // A page for each process, all in the first cache.
            "mon_data/mon_L3_00/llc_occupancy" => Some(format!("{}\n", group.tasks.len() * 4096)),
            "mon_data/mon_L3_01/llc_occupancy" => Some("0\n".into()),
            "mon_data/mon_L3_00/mbm_total_bytes" => Some("300\n".into()),
            "mon_data/mon_L3_01/mbm_total_bytes" => Some("20\n".into()),
            "mon_data/mon_L3_00/mbm_local_bytes" | "mon_data/mon_L3_01/mbm_local_bytes" => {
                Some("10\n".into())
            }
            "schemata" if !monitors => Some(group.schemata()),
            "tasks" => {
                let alive = |pid: &&u32| Path::new(&format!("/proc/{pid}")).exists();
                let tasks = group.tasks.iter().filter(alive);
                Some(tasks.map(|pid| format!("{pid}\n")).collect())
            }
            _ => return Err(libc::ENOENT),
        })
    }

    /// What a folder has of caches, classes and groups; nobody looks for more.
    fn inside(&self, path: &str) -> Vec<&str> {
        if path.ends_with("mon_data") {
            return vec!["mon_L3_01", "mon_L3_00"];
        }
        let names = self.groups.keys().filter_map(|name| match path {
            "" => Some(name.as_str()),
            _ => name.strip_prefix(path)?.strip_prefix('/'),
        });
        names.filter(|name| !name.is_empty() && !name.contains('/')).collect()
    }

    fn make(&mut self, path: &str) -> Result<(), i32> {
        if self.read(path).is_ok() {
            return Err(libc::EEXIST);
        }
        let (_, rest) = self.locate(path);
        let monitors = rest.starts_with("mon_groups/");
        let classes = self.groups.keys().filter(|name| !name.contains("mon_groups")).count();
        if rest.trim_start_matches("mon_groups/").contains('/') {
            return Err(libc::EPERM);
        }
        if !monitors && classes == MOST {
            return Err(self.refuse("Out of CLOSIDs", libc::ENOSPC));
        }
        self.status = "ok".into();
        let group = if monitors { Group::default() } else { everything() };
        self.groups.insert(path.into(), group);
        Ok(())
    }

    fn remove(&mut self, path: &str) -> Result<(), i32> {
        if path.is_empty() || !self.groups.contains_key(path) {
            return Err(libc::EPERM);
        }
        let below = format!("{path}/");
        self.groups.retain(|name, _| name != path && !name.starts_with(&below));
        Ok(())
    }

    fn write(&mut self, path: &str, text: &str, pid: u32) -> Result<(), i32> {
        let (group, rest) = self.locate(path);
        match rest {
            "tasks" => self.join(&group, text, pid),
            "schemata" => self.share(&group, text),
            _ => Err(libc::EACCES),
        }
    }

    fn join(&mut self, group: &str, text: &str, pid: u32) -> Result<(), i32> {
        let pid = match text.trim().parse() {
            Ok(0) => pid,
            Ok(other) => other,
            Err(_) => return Err(libc::EINVAL),
        };
        let class = match group.find("mon_groups/") {
            Some(at) => group[..at].trim_end_matches('/').to_owned(),
            None => group.to_owned(),
        };
        if class != group && !self.groups[&class].tasks.contains(&pid) {
            return Err(self.refuse("Can't move task to different control group", libc::EINVAL));
        }
        for (name, other) in &mut self.groups {
            if *name != class {
                other.tasks.retain(|task| *task != pid);
            }
        }
        let tasks = &mut self.groups.get_mut(group).unwrap().tasks;
        if !tasks.contains(&pid) {
            tasks.push(pid);
        }
        Ok(())
    }

    fn share(&mut self, group: &str, text: &str) -> Result<(), i32> {
        if !text.ends_with('\n') {
            return Err(libc::EINVAL);
        }
        for line in text.lines() {
            let (resource, rest) = line.split_once(':').unwrap_or((line, ""));
            let Some(shares) = self.groups.get_mut(group).unwrap().shares.get_mut(resource) else {
                let words = format!("Unknown or unsupported resource name '{resource}'");
                return Err(self.refuse(&words, libc::EINVAL));
            };
            for pair in rest.split(';') {
                let (id, share) = pair.split_once('=').unwrap_or((pair, ""));
                match shares.get_mut(id) {
                    Some(place) => *place = share.to_owned(),
                    None => return Err(self.refuse("Invalid domain id", libc::EINVAL)),
                }
            }
        }
        self.status = "ok".into();
        Ok(())
    }

    fn refuse(&mut self, words: &str, errno: i32) -> i32 {
        self.status = words.to_owned();
        errno
    }
}

/// What a new class gets.
fn everything() -> Group {
    let all = |share: &str| ["0", "1"].map(|id| (id.to_owned(), share.to_owned())).into();
    let shares = [("L3".to_owned(), all("fffff")), ("MB".to_owned(), all("100"))].into();
    Group { tasks: Vec::new(), shares }
}

/// Answers the kernel until it is unmounted (linux/fuse.h).
fn serve(mut device: File, model: &Mutex<Model>) {
    let mut request = vec![0; 1 << 20];
    while let Ok(length) = device.read(&mut request) {
        let request = &request[..length];
        let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_ne_bytes(request[at..at + 8].try_into().unwrap());
        let (opcode, node, pid) = (word(4), long(16), word(32));
        // FORGET, INTERRUPT, BATCH_FORGET: nothing is answered.
        if matches!(opcode, 2 | 36 | 42) {
            continue;
        }
        let answer = answer(&mut lock(model), opcode, node, pid, &request[40..]);
        let (error, body) = answer.map_or_else(|errno| (-errno, Vec::new()), |body| (0, body));
        let mut reply = Vec::from(u32::try_from(16 + body.len()).unwrap().to_ne_bytes());
        reply.extend(error.to_ne_bytes());
        reply.extend(&request[8..16]);
        reply.extend(body);
        // ENOENT: who asked was interrupted.
        let _ = device.write(&reply);
    }
}

fn answer(model: &mut Model, op: u32, node: u64, pid: u32, body: &[u8]) -> Result<Vec<u8>, i32> {
    let path = match node.checked_sub(1) {
        Some(index) => model.nodes[index as usize].clone(),
        None => String::new(),
    };
    let below = |name: &[u8]| {
        let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
        if path.is_empty() { name } else { format!("{path}/{name}") }
    };
    let size = |at: usize| u32::from_ne_bytes(body[at..at + 4].try_into().unwrap());
    match op {
        1 => entry(model, &below(body)), // LOOKUP
        3 | 4 => {
            // GETATTR, SETATTR
            let mut reply = vec![0; 16];
            reply.extend(attributes(model, &path, node)?);
            Ok(reply)
        }
        9 => {
            // MKDIR
            let path = below(&body[8..]);
            model.make(&path)?;
            entry(model, &path)
        }
        11 => model.remove(&below(body)).map(|()| Vec::new()), // RMDIR
        14 | 27 => {
            // OPEN, with direct I/O: sizes are not known; OPENDIR
            let mut reply = vec![0; 16];
            reply[8] = 1;
            Ok(reply)
        }
        15 => {
            // READ
            let text = model.read(&path)?.ok_or(libc::EISDIR)?;
            let offset = u64::from_ne_bytes(body[8..16].try_into().unwrap()) as usize;
            let rest = text.as_bytes().get(offset..).unwrap_or_default();
            Ok(rest[..rest.len().min(size(16) as usize)].to_vec())
        }
        16 => {
            // WRITE
            let text = String::from_utf8_lossy(&body[40..]).into_owned();
            model.write(&path, &text, pid)?;
            Ok([size(16).to_ne_bytes(), [0; 4]].concat())
        }
        17 => Ok(vec![0; 80]),               // STATFS
        18 | 25 | 29 | 38 => Ok(Vec::new()), // RELEASE, FLUSH, RELEASEDIR, DESTROY
        28 => {
            // READDIR, of few enough for one answer
            let first = u64::from_ne_bytes(body[8..16].try_into().unwrap()) == 0;
            let names = if first { model.inside(&path) } else { Vec::new() };
            Ok(names.iter().zip(1_u64..).flat_map(|(name, at)| directory_entry(name, at)).collect())
        }
        26 => {
            // INIT
            let mut reply = vec![0; 64];
            reply[..8].copy_from_slice(&[7_u32.to_ne_bytes(), 31_u32.to_ne_bytes()].concat());
            reply[20..24].copy_from_slice(&4096_u32.to_ne_bytes());
            Ok(reply)
        }
        _ => Err(libc::ENOSYS),
    }
}

/// A directory, `at` being where the next entry is.
fn directory_entry(name: &str, at: u64) -> Vec<u8> {
    let mut entry = [u64::MAX.to_ne_bytes(), at.to_ne_bytes()].concat();
    entry.extend(u32::try_from(name.len()).unwrap().to_ne_bytes());
    entry.extend(u32::from(libc::DT_DIR).to_ne_bytes());
    entry.extend(name.as_bytes());
    entry.resize(entry.len().next_multiple_of(8), 0);
    entry
}

/// Nothing of it may be remembered.
fn entry(model: &mut Model, path: &str) -> Result<Vec<u8>, i32> {
    model.read(path)?;
    let known = model.nodes.iter().position(|known| known == path);
    let index = known.unwrap_or_else(|| {
        model.nodes.push(path.to_owned());
        model.nodes.len() - 1
    });
    let node = index as u64 + 1;
    let mut reply = Vec::from(node.to_ne_bytes());
    reply.resize(40, 0);
    reply.extend(attributes(model, path, node)?);
    Ok(reply)
}

fn attributes(model: &Model, path: &str, node: u64) -> Result<Vec<u8>, i32> {
    let directory = model.read(path)?.is_none();
    let mode = if directory { libc::S_IFDIR | 0o755 } else { libc::S_IFREG | 0o644 };
    let mut reply = Vec::from(node.to_ne_bytes());
    reply.resize(60, 0);
    reply.extend(mode.to_ne_bytes());
    reply.extend(1_u32.to_ne_bytes());
    reply.resize(88, 0);
    Ok(reply)
}
