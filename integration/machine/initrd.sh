#!/bin/busybox sh
# Process 1 until the root is mounted: what the kernel needs for that, and no
# device manager.
b=/bin/busybox
$b mount -t devtmpfs dev /dev
while read -r module; do
    $b insmod "/modules/$module" || echo "lab: $module cannot be loaded"
done </modules/order
n=0
until [ -b /dev/vda ]; do
    n=$((n + 1))
    [ $n -lt 300 ] || echo 'lab: no disk in 30 s'
    [ $n -lt 300 ] || exec $b poweroff -f
    $b sleep 0.1
done
if ! $b mount -t ext4 -o noatime,noinit_itable /dev/vda /root; then
    echo 'lab: the root cannot be mounted'
    exec $b poweroff -f
fi
# SELinux asks for labels on all files, which are made here: whoever builds an image
# need not be root, who alone may. Before a policy is loaded nobody asks.
$b mount -t proc proc /proc
case " $($b cat /proc/cmdline) " in
*' security=selinux '*)
    $b chroot /root setfiles -F /etc/selinux/default/contexts/files/file_contexts / ||
        echo 'lab: the files cannot be labelled'
    ;;
esac
$b umount /proc
$b mount -o move /dev /root/dev
exec $b switch_root /root /sbin/init
