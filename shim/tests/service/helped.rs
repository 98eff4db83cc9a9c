//! What others do for the shim: programs that mount, and the kernel's scheduler.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use prost::Message;
use rustix::process::Pid;
use rustix::thread::{CoreSchedulingScope, core_scheduling_cookie};

use crate::client::{Client, World, address_of, end};
use crate::messages::Mount;
use crate::messages::bootstrap::{BootstrapParams, BootstrapResult};
use crate::messages::task::{
    ConnectResponse, CreateTaskRequest, DeleteResponse, PidResponse, WaitResponse,
};

/// `mount.fuse` is a program of the host's, whose daemon goes on. Here it is one that binds.
#[test]
fn a_root_in_user_space_is_mounted_by_its_program() {
    let test = "a_root_in_user_space_is_mounted_by_its_program";
    let Some(mut world) = World::new(test) else { return };
    let rootfs = world.bundle("a", &["/program", "-v"]).join("rootfs");
    let image = world.path("image");
    fs::rename(&rootfs, &image).unwrap();
    fs::create_dir(&rootfs).unwrap();
    let (folder, program) = (world.path("bin"), world.path("bin/mount.fuse"));
    fs::create_dir(&folder).unwrap();
    let said = world.path("said");
    // Its daemon has what it had.
    let script = format!(
        "#!/bin/sh\necho \"$@\" >{said}\n[ $1 != none ] || {{ echo not this >&2; exit 3; }}\n\
         /bin/mount --bind $1 $2\n/bin/sleep 5 &\n",
        said = said.display()
    );
    let draft = world.path("draft");
    fs::write(&draft, script).unwrap();
    fs::set_permissions(&draft, Permissions::from_mode(0o755)).unwrap();
    // A child of another thread would have it open for writing (see the bundles).
    assert!(Command::new("cp").arg("-p").args([draft, program]).status().unwrap().success());
    world.environment.push(("PATH", folder.to_str().unwrap().to_owned()));
    let mut client = world.serve("a");
    let address = address_of(&client);
    let mount = |kind: &str, source: &Path, target: &str| CreateTaskRequest {
        rootfs: vec![Mount {
            kind: kind.to_owned(),
            source: source.to_str().unwrap().to_owned(),
            target: target.to_owned(),
            options: vec!["ro".to_owned(), "allow_other".to_owned()],
        }],
        ..world.creation("a")
    };
    for (request, wanted) in [
        (mount("fuse.some", Path::new("none"), ""), "mount.fuse: exit status: 3: not this"),
        (mount("fuse3.some", &image, ""), "starting mount.fuse3: No such file or directory"),
        (mount("fuse.some", &image, "/proc"), "is mounted on the root alone"),
    ] {
        let (_, words) = client.refused("Create", &request);
        assert!(words.contains(wanted), "{words}");
    }
    let _: PidResponse = client.ask("Create", &mount("fuse.some", &image, ""));
    let words = format!("{} {} -o ro -o allow_other -t some\n", image.display(), rootfs.display());
    assert_eq!(fs::read_to_string(said).unwrap(), words);
    let _: PidResponse = client.ask("Start", &world.of("a"));
    let ended: WaitResponse = client.ask("Wait", &world.of("a"));
    assert_eq!(ended.exit_status, 0);
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!table.contains(rootfs.to_str().unwrap()));
    end(&world, client, &address);
}

/// Where the processor has no threads, or the kernel can't, it is an error.
#[test]
fn a_shim_shares_its_cores_with_nobody_if_it_is_told_to() {
    let test = "a_shim_shares_its_cores_with_nobody_if_it_is_told_to";
    let Some(mut world) = World::new(test) else { return };
    world.bundle("a", &["/program", "-v"]);
    world.environment.push(("SCHED_CORE", "1".to_owned()));
    let sockets = world.path("s");
    let params = BootstrapParams {
        instance_id: world.id("a"),
        namespace: "test".to_owned(),
        socket_dir: sockets.to_str().unwrap().to_owned(),
        ..BootstrapParams::default()
    };
    let cookie = |pid: u32| {
        let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        core_scheduling_cookie(pid, CoreSchedulingScope::Thread)
    };
    let output = world.try_start("a", &params.encode_to_vec());
    if cookie(std::process::id()).is_err() {
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("SCHED_CORE: core scheduling: "), "{said}");
        assert!(!output.status.success() && output.stdout.is_empty());
        let left = fs::read_dir(sockets).map_or(0, Iterator::count);
        assert_eq!(left, 0, "its socket is left");
        println!("SKIP {test}: needs core scheduling, and cores with threads");
        return;
    }
    let result = BootstrapResult::decode(&*output.stdout).unwrap();
    let mut client = Client::to(&result.address);
    let address = address_of(&client);
    let shim: ConnectResponse = client.ask("Connect", &world.of("none"));
    let created: PidResponse = client.ask("Create", &world.creation("a"));
    let (own, theirs) = (cookie(shim.shim_pid).unwrap(), cookie(created.pid).unwrap());
    assert!(own != 0 && own == theirs && cookie(std::process::id()) != Ok(own));
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    end(&world, client, &address);
}
