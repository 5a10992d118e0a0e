#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Module of dracut: adds xen-tpmfront where the root disk may open by the TPM. udev loads it, by its alias xen:vtpm. The words
# of dracut.conf decide otherwise: add_dracutmodules+=" xen-tpmfront ", omit_dracutmodules+=" xen-tpmfront ".

# shellcheck disable=SC2154  # dracut's variables
xen_tpmfront_tools=$dracutsysrootdir/usr/libexec/xen-tpmfront

# An image for any machine knows no crypttab: it gets the driver.
check() {
    [[ ! $hostonly ]] || "$xen_tpmfront_tools/crypttab-wants-tpm" "$dracutsysrootdir" > /dev/null || return 255
}

# hostonly is for drivers of the machine that makes the image, which may be no Xen guest. A driver that is missing or built in
# is no error.
installkernel() {
    local volume
    hostonly='' instmods xen-tpmfront
    volume=$("$xen_tpmfront_tools/crypttab-wants-tpm" "$dracutsysrootdir") || return 0
    "$xen_tpmfront_tools/warn-of-stock-driver" "$kernel" "$volume"
}
