# From root.tar to what the machine boots: kernel, initrd, disk.ext4. Run in the
# folder of all of these, as root or as root of a user namespace; $1 is the script
# for the initrd, $2 the size of the disk.
set -eu
PATH=$PATH:/usr/sbin:/sbin

mkdir root
# Device nodes come from the kernel, and can't be made in a user namespace.
tar --extract --file root.tar --directory root --numeric-owner --preserve-permissions \
    --xattrs --xattrs-include='*' --exclude='./dev/*'
rm root.tar

for home in root/root root/home/lab; do
    mkdir -p "$home/.ssh"
    chmod 700 "$home/.ssh"
    cp key.pub "$home/.ssh/authorized_keys"
done
chown -R 1000:1000 root/home/lab
printf 'lab %s\n' "$(cut -d ' ' -f 1,2 root/etc/ssh/ssh_host_ed25519_key.pub)" >known_hosts

release=$(ls root/lib/modules)
case $release in *' '* | '') echo "not one kernel: $release" >&2 && exit 1 ;; esac
echo "$release" >release
cp "root/boot/vmlinuz-$release" kernel

# Built in the root itself, with the tools that are there.
tree=root/initrd
mkdir -p $tree/bin $tree/dev $tree/modules $tree/proc $tree/root
cp root/usr/bin/busybox $tree/bin/busybox
printf '%s' "$1" >$tree/init
chmod 755 $tree/init
for module in virtio_pci virtio_blk virtio_net ext4; do
    chroot root modprobe --set-version "$release" --show-depends "$module"
done | while read -r verb path _; do
    [ "$verb" = insmod ] || continue
    name=$(basename "$path")
    name=${name%.xz}
    [ ! -e "$tree/modules/$name" ] || continue
    case $path in
    *.ko) cp "root$path" "$tree/modules/$name" ;;
    *.ko.xz) chroot root busybox unxz -c "$path" >"$tree/modules/$name" ;;
    *) echo "unknown compression: $path" >&2 && exit 1 ;;
    esac
    echo "$name" >>$tree/modules/order
done
chroot root busybox sh -c 'cd /initrd && busybox find . | busybox cpio -o -H newc' >initrd
[ -s $tree/modules/order ] && [ -s initrd ]
rm -r $tree

# Newer than /usr, or the first boot would bring them up to date.
touch root/etc/.updated root/var/.updated
mke2fs -q -F -t ext4 -m 0 -L lab -d root disk.ext4 "$2"
rm -r root
