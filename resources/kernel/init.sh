#!/bin/sh
# The first and only program of the test kernel: exercises the disks and the network card that the
# kernel's command line names, says on the console what came of it, and ends the machine.
#
#   denali.disks=vda,vdb    disks with a file system that holds `host.bin` and, in `host.md5`, its checksum
#   denali.rounds=N         how often each disk is written and read back (1)
#   denali.net=OWN/24,PEER  address of eth0, and the address of the host, which sends on port 5001
#                           what it wants back on port 5002
#
# Each line that a test waits for starts with "guest:"; "guest: failed" means what it says.

busybox=/bin/busybox
export PATH=/bin
$busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp

say() { echo "guest: $*"; }

end() {
    say "end"
    # One processor that resets is how such a machine ends.
    reboot -f
}

failed() {
    say "failed: $*"
    end
}

# The value of a word of the command line.
asked() {
    for word in $(cat /proc/cmdline); do
        case $word in "$1="*) echo "${word#*=}" ;; esac
    done
}

# One round: what is there is right; what is written is there after the disk was let go of.
disk_round() {
    disk=$1
    mount -t ext4 "/dev/$disk" /mnt || failed "$disk cannot be mounted"
    (cd /mnt && md5sum -c -s host.md5) || failed "$disk: what the host wrote differs"
    dd if=/dev/urandom of=/mnt/guest.bin bs=64k count=96 2>/dev/null || failed "$disk cannot be written"
    md5sum <"/mnt/guest.bin" >/tmp/written
    mkdir -p /mnt/small
    for n in 1 2 3 4 5 6 7 8; do
        echo "$disk $n" >"/mnt/small/$n"
        sync
    done
    # What this mount remembers is forgotten with it.
    umount /mnt || failed "$disk cannot be unmounted"
    mount -t ext4 -o ro "/dev/$disk" /mnt || failed "$disk cannot be mounted again"
    md5sum <"/mnt/guest.bin" | cmp -s - /tmp/written || failed "$disk: what was written differs"
    [ "$(cat /mnt/small/8)" = "$disk 8" ] || failed "$disk: a small file differs"
    umount /mnt || failed "$disk cannot be unmounted again"
}

# Blocks that no file uses are given back; a disk that cannot do so says so.
disk_trim() {
    mount -t ext4 "/dev/$1" /mnt || failed "$1 cannot be mounted"
    rm -r /mnt/small
    sync
    if fstrim /mnt 2>/tmp/error; then say "$1 trimmed"; else say "$1 not trimmed: $(cat /tmp/error)"; fi
    # The checksum of what the guest leaves behind is for the host to compare.
    say "$1 guest.bin $(md5sum </mnt/guest.bin | cut -d' ' -f1)"
    umount /mnt || failed "$1 cannot be unmounted"
}

disks() {
    rounds=$(asked denali.rounds)
    for disk in $(asked denali.disks | tr , ' '); do
        say "$disk $(cat "/sys/block/$disk/size") sectors"
        round=0
        while [ $round -lt "${rounds:-1}" ]; do
            disk_round "$disk"
            round=$((round + 1))
            say "$disk round $round"
        done
        disk_trim "$disk"
    done
}

network() {
    own=$(asked denali.net)
    [ -n "$own" ] || return
    peer=${own#*,}
    ip link set lo up
    ip addr add "${own%,*}" dev eth0 || failed "eth0 has no address"
    ip link set eth0 up || failed "eth0 is not up"
    say "eth0 $(cat /sys/class/net/eth0/address) mtu $(cat /sys/class/net/eth0/mtu)"
    ping -c 3 -W 10 "$peer" >/tmp/ping || failed "no answer to ping"
    say "ping $(grep received /tmp/ping)"
    nc "$peer" 5001 >/tmp/received </dev/null || failed "nothing comes from port 5001"
    say "received $(wc -c </tmp/received) bytes $(md5sum </tmp/received | cut -d' ' -f1)"
    nc "$peer" 5002 </tmp/received || failed "nothing goes to port 5002"
    say "sent"
}

say "started"
disks
network
end
