/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a TPM driver calls of the TPM core. The functions are exported, but their prototypes stand
 * in the core's private drivers/char/tpm/tpm.h, which kernel header packages lack.
 */
#ifndef XEN_TPMFRONT_TPM_CORE_H
#define XEN_TPMFRONT_TPM_CORE_H

#include <linux/tpm.h>

struct tpm_chip *tpmm_chip_alloc(struct device *pdev, const struct tpm_class_ops *ops);
int tpm_chip_register(struct tpm_chip *chip);
void tpm_chip_unregister(struct tpm_chip *chip);
unsigned long tpm_calc_ordinal_duration(struct tpm_chip *chip, u32 ordinal);
int tpm_pm_suspend(struct device *dev);
int tpm_pm_resume(struct device *dev);

#endif
