# What the packages do not bring. mmdebstrap runs this with the root in $1.
set -eu
root=$1

# An ordinary user, whose manager runs without a login and hands out every
# controller that the kernel lets it have. Ranges of ids come with the user.
chroot "$root" useradd --create-home --shell /bin/bash --uid 1000 lab
mkdir -p "$root/var/lib/systemd/linger"
touch "$root/var/lib/systemd/linger/lab"
mkdir -p "$root/etc/systemd/system/user@.service.d"
cat >"$root/etc/systemd/system/user@.service.d/delegate.conf" <<'END'
[Service]
Delegate=cpu cpuset io memory pids
END

# The emulated network has one address to give and nowhere to go.
cat >"$root/etc/systemd/system/lab-network.service" <<'END'
[Unit]
Description=The lab's one address
DefaultDependencies=no
Before=network.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/ip link set eth0 up
ExecStart=/bin/ip address add 10.0.2.15/24 dev eth0
[Install]
WantedBy=multi-user.target
END
# CRIU's breakpoints are perf events: the first one of all has the kernel change its
# scheduler's instructions, the end of the last one back again, and an emulated processor
# may still run what stood there meanwhile (Oops: int3). So one event is always there.
cat >"$root/etc/systemd/system/lab-perf.service" <<'END'
[Unit]
Description=An event that never happens (perf_event_open(2), PERF_COUNT_SW_DUMMY)
[Service]
ExecStart=/usr/bin/perl -e 'my $$attr = pack("L2Q5L2Q", 1, 64, 9, (0) x 7); \
    syscall(298, $$attr, 0, -1, -1, 0) < 0 and die "perf_event_open: $$!"; sleep'
[Install]
WantedBy=multi-user.target
END
chroot "$root" systemctl enable --quiet lab-network.service lab-perf.service ssh.service
cat >"$root/etc/ssh/sshd_config.d/lab.conf" <<'END'
PermitRootLogin prohibit-password
PasswordAuthentication no
UseDNS no
MaxSessions 64
END

# Nothing works beside what is tested, and nothing waits for what is not there.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer man-db.timer getty@tty1.service serial-getty@ttyS0.service \
    systemd-pstore.service systemd-timesyncd.service apparmor.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
# Nobody needs the inode tables zeroed, which would fill the disk of changes.
echo '/dev/vda / ext4 noatime,noinit_itable 0 0' >"$root/etc/fstab"
echo lab >"$root/etc/hostname"
echo '127.0.0.1 localhost lab' >"$root/etc/hosts"
# With an id of its own this is no first boot, on which everything is set up anew.
tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"

# A root file system for containers.
mkdir -p "$root/usr/share/lab/busybox/bin"
cd "$root/usr/share/lab/busybox"
mkdir dev etc proc root sys tmp
cp "$root/usr/bin/busybox" bin/busybox
for name in $(chroot "$root" busybox --list); do
    [ "$name" = busybox ] || ln -s busybox "bin/$name"
done
echo 'root:x:0:0:root:/root:/bin/sh' >etc/passwd
echo 'root:x:0:' >etc/group
tar --create --file ../busybox.tar --owner 0 --group 0 .
