//! What the manual pages say beyond the help: a paragraph or two for each command, and
//! the parts that pages have in common.

/// What a command does, paragraph by paragraph.
pub(crate) const DESCRIPTIONS: &[(&str, &[&str])] = &[
    (
        "try",
        &[
            "Runs a command in a throwaway container of this machine's own programs: no image, \
             no download, and no root needed. The machine's directories are there to be read; \
             what is written is gone at the end.",
            "What this machine does not let a caller isolate is told before the command runs.",
        ],
    ),
    (
        "run",
        &["Creates a container, starts it, waits for the end of its process and deletes it: \
             create, start and delete in one. Signals are passed on, and with a terminal in the \
             config the caller's terminal becomes the container's."],
    ),
    (
        "create",
        &["Makes a container from a bundle: its namespaces, cgroups, mounts and limits. The \
             process waits for start before it becomes the program of the config. A config that \
             can not work is refused before anything is made."],
    ),
    (
        "start",
        &["Lets the process of a created container become its program, and returns when it has."],
    ),
    (
        "exec",
        &["Runs a further process in a container that is created or running, with the \
             namespaces, cgroups, and unless the flags say otherwise the environment and \
             privileges of its own process. Without --detach it waits for the end."],
    ),
    (
        "kill",
        &["Sends a signal to the container's own process; with signal KILL and no pid \
             namespace of its own, to all its processes. The signal is a number or a name, with \
             or without SIG."],
    ),
    (
        "delete",
        &["Removes what is left of a container that has stopped or was never started: its \
             cgroups and its state. With --force the container is killed first, and one that \
             does not exist is no error."],
    ),
    (
        "checkpoint",
        &["Saves a running container's processes to files, by criu(8), which must be in PATH. \
             The container ends, unless --leave-running or --pre-dump is given."],
    ),
    (
        "restore",
        &["Makes a container from a bundle and the files that checkpoint has written: its \
             processes go on where they were. Needs criu(8)."],
    ),
    (
        "list",
        &["Prints the containers below --root, one a line or as JSON. Those of another \
             directory are not seen."],
    ),
    (
        "state",
        &["Prints the state of a container as JSON, with the fields of the OCI runtime \
             specification."],
    ),
    (
        "ps",
        &["Prints the processes of a container: with --format json their ids, otherwise what \
             ps(1) says of them."],
    ),
    (
        "events",
        &["Prints what a container uses as JSON, one object a line: at once and no more with \
             --stats, otherwise again and again until it ends, with an object of type oom each \
             time that the kernel ends one of its processes for want of memory."],
    ),
    (
        "update",
        &["Changes the limits of a running container. Flags change what they name and let the \
             rest be, and so does the file of --resources. A SIZE is bytes, or a number with k, m, g, t or p behind it."],
    ),
    (
        "mounts",
        &["Mounts file systems in a running container, or unmounts them. The mounts are those \
             of a config.json, and their destinations are looked up in the container's root."],
    ),
    ("pause", &["Freezes all processes of a container until resume."]),
    ("resume", &["Lets a paused container go on."]),
    (
        "spec",
        &["Writes a config.json to start from. It asks for a shell at a terminal; with \
             --rootless it has a user namespace of the caller's own id."],
    ),
    (
        "plan",
        &["Prints what creating a container of a bundle would do, step by step, and does \
             nothing of it. The errors are those of create."],
    ),
    (
        "features",
        &["Prints what this build knows of the OCI runtime specification, as JSON. What this \
             machine can do is not looked at."],
    ),
    (
        "stage",
        &["Writes the program that runs inside of a new container to a file. It is needed \
             where vm.memfd_noexec forbids programs in memory, as /usr/libexec/orlop/init or \
             /usr/local/libexec/orlop/init, and must be of the same version."],
    ),
];

/// What a command ends with, if that is more than 0 and 1.
pub(crate) fn exit_status(command: &str) -> &'static [(&'static str, &'static str)] {
    const OF_THE_PROCESS: (&str, &str) = ("N", "The process ended with N.");
    const KILLED: (&str, &str) = ("128+N", "Signal N ended the process.");
    const DETACHED: (&str, &str) = ("0", "With --detach: the process has started.");
    const FAILED: (&str, &str) = ("1", "It failed, or was called wrongly.");
    const NOT_EXECUTED: (&str, &str) = ("255", "The program of the config could not be executed.");
    match command {
        "run" => &[OF_THE_PROCESS, KILLED, DETACHED, FAILED, NOT_EXECUTED],
        "restore" => &[OF_THE_PROCESS, KILLED, DETACHED, FAILED],
        "exec" => &[
            OF_THE_PROCESS,
            KILLED,
            DETACHED,
            ("255", "It failed before the process ran."),
            ("1", "It was called wrongly."),
        ],
        "try" => &[
            OF_THE_PROCESS,
            KILLED,
            ("126", "The command can not be executed."),
            ("127", "There is no such command."),
            FAILED,
        ],
        _ => &[("0", "It is done."), FAILED],
    }
}

/// What a command reads and leaves.
pub(crate) fn files(command: &str) -> &'static [(&'static str, &'static str)] {
    const CONFIG: (&str, &str) = ("config.json", "The config, in the bundle's directory.");
    const STATE: (&str, &str) =
        ("/run/orlop/CONTAINER-ID", "The state of a container; see --root in orlop(8).");
    match command {
        "try" | "features" => &[],
        "spec" | "plan" => &[CONFIG],
        "run" | "create" => &[CONFIG, STATE],
        "checkpoint" => &[("checkpoint", "Where the images are without --image-path."), STATE],
        "restore" => &[CONFIG, ("checkpoint", "Where the images are without --image-path."), STATE],
        "stage" => &[
            ("/usr/libexec/orlop/init", "Where the file is looked for."),
            ("/usr/local/libexec/orlop/init", "Likewise."),
        ],
        _ => &[STATE],
    }
}

/// Of the program as a whole.
pub(crate) const PROGRAM: &[&str] = &[
    "Orlop runs containers from bundles, as the OCI runtime specification has them: a \
     directory with a config.json and a root file system. It takes runc's place under an \
     engine, with the same commands, flags, exit codes and texts, and calls itself runc when \
     it is called so.",
    "A bundle is compiled into a plan, which can be read with orlop-plan(8), and a small sealed \
     program carries the plan out inside of the new container.",
    "Flags before the command are for every command. A switch may be given a value behind an \
     equals sign, as in --debug=false; of a flag that is given twice the last one counts.",
];

/// Variables that the program reads.
pub(crate) const ENVIRONMENT: &[(&str, &str)] = &[
    ("XDG_RUNTIME_DIR", "Without privileges the state is kept in orlop below this directory."),
    ("NOTIFY_SOCKET", "The container is given a socket in its place, for sd_notify(3)."),
    ("LISTEN_FDS", "How many sockets of systemd the container is given; see sd_listen_fds(3)."),
    ("DBUS_SESSION_BUS_ADDRESS", "Where an ordinary user's systemd is reached."),
    ("PATH", "Where criu, newuidmap and newgidmap are looked for."),
];

/// Files of the program as a whole.
pub(crate) const FILES: &[(&str, &str)] = &[
    ("/run/orlop", "The state of the containers."),
    ("$XDG_RUNTIME_DIR/orlop", "The same without privileges."),
    ("/etc/subuid, /etc/subgid", "The ids that newuidmap(1) and newgidmap(1) map for a user."),
    ("/usr/libexec/orlop/init", "The init stage, where none can be made; see orlop-stage(8)."),
];

/// Pages that are not ours.
pub(crate) const ELSEWHERE: &[(&str, &str)] =
    &[("runc", "8"), ("criu", "8"), ("cgroups", "7"), ("namespaces", "7")];
