// SPDX-License-Identifier: Apache-2.0
// What a host has of Xen, for programs that are run without it: preloaded, it takes the place of libxenctrl, libxenevtchn and
// the kernel's gntdev. XEN_VTPM_FAKE_XEN is a directory of host.py's, with
//   domains   a line each: number, incarnation, whether it has run, is paused, is suspended; and its handle
//   pages     the pages that guests grant: grant N is the N-th
//   events    a socket: one connection is one event channel. 4 bytes are a port, as of /dev/xen/evtchn, 8 ring the guest
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <xenctrl.h>
#include <xenevtchn.h>
#include <xen/sys/evtchn.h>
#include <xen/sys/gntdev.h>

static void place(char *path, size_t size, const char *name)
{
	const char *directory = getenv("XEN_VTPM_FAKE_XEN");

	if (snprintf(path, size, "%s/%s", directory ? directory : "", name) >= (int)size)
		abort();
}

// ---- the hypervisor's word on domains ----

xc_interface *xc_interface_open(xentoollog_logger *logger, xentoollog_logger *dombuild_logger, unsigned int flags)
{
	return malloc(1);
}

int xc_interface_close(xc_interface *xch)
{
	free(xch);
	return 0;
}

struct fake_domain {
	uint32_t number, incarnation;
	int has_run, paused, suspended;
	char handle[33];
};

static int find_domain(uint32_t number, struct fake_domain *found)
{
	char path[200];
	FILE *file;
	int is_there = 0;

	place(path, sizeof(path), "domains");
	file = fopen(path, "re");
	while (file && !is_there &&
	       fscanf(file, "%" SCNu32 " %" SCNu32 " %d %d %d %32s", &found->number, &found->incarnation, &found->has_run,
		      &found->paused, &found->suspended, found->handle) == 6)
		is_there = found->number == number;
	if (file)
		fclose(file);
	return is_there;
}

int xc_domain_getinfolist(xc_interface *xch, uint32_t first_domain, unsigned int max_domains, xc_domaininfo_t *info)
{
	struct fake_domain found;

	if (!find_domain(first_domain, &found))
		return 0;
	info->domain = found.number;
	info->cpu_time = found.has_run;
	info->flags = found.paused ? XEN_DOMINF_paused : 0;
	if (found.suspended)
		info->flags |= XEN_DOMINF_shutdown | SHUTDOWN_suspend << XEN_DOMINF_shutdownshift;
	for (size_t i = 0; i < sizeof(info->handle); i++)
		sscanf(found.handle + 2 * i, "%2hhx", &info->handle[i]);
	return 1;
}

int xc_domain_get_tsc_info(xc_interface *xch, uint32_t domid, uint32_t *tsc_mode, uint64_t *elapsed_nsec, uint32_t *gtsc_khz,
			   uint32_t *incarnation)
{
	struct fake_domain found;

	if (!find_domain(domid, &found)) {
		errno = ESRCH;
		return -1;
	}
	*incarnation = found.incarnation;
	return 0;
}

// ---- event channels ----

struct xenevtchn_handle {
	int fd;
};

xenevtchn_handle *xenevtchn_open(struct xentoollog_logger *logger, unsigned int open_flags)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	xenevtchn_handle *handle = malloc(sizeof(*handle));

	place(address.sun_path, sizeof(address.sun_path), "events");
	handle->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (connect(handle->fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
		return handle;
	close(handle->fd);
	free(handle);
	return NULL;
}

int xenevtchn_close(xenevtchn_handle *xce)
{
	close(xce->fd);
	free(xce);
	return 0;
}

int xenevtchn_fd(xenevtchn_handle *xce)
{
	return xce->fd;
}

int xenevtchn_restrict(xenevtchn_handle *xce, domid_t domid)
{
	return 0;
}

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle *xce, uint32_t domid, evtchn_port_t remote_port)
{
	const uint32_t whom[] = { domid, remote_port };

	return send(xce->fd, whom, sizeof(whom), MSG_NOSIGNAL) == sizeof(whom) ? (int)remote_port : -1;
}

// ---- the kernel's devices ----

int open64(const char *path, int flags, ...)
{
	int (*next)(const char *, int, ...) = dlsym(RTLD_NEXT, "open64");
	char pages[200];
	va_list more;
	mode_t mode;

	va_start(more, flags);
	mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;
	va_end(more);
	if (strcmp(path, "/dev/xen/gntdev") == 0) {
		place(pages, sizeof(pages), "pages");
		path = pages;
	}
	return next(path, flags, mode);
}

int open(const char *path, int flags, ...) __attribute__((alias("open64")));

int ioctl(int fd, unsigned long request, ...)
{
	int (*next)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
	struct ioctl_gntdev_map_grant_ref *grant;
	va_list more;
	void *argument;
	uint32_t ring[2] = { 0, 1 };

	va_start(more, request);
	argument = va_arg(more, void *);
	va_end(more);
	switch (request) {
	case IOCTL_GNTDEV_MAP_GRANT_REF:
		grant = argument;
		grant->index = (uint64_t)grant->refs[0].ref * 4096;
		return 0;
	case IOCTL_GNTDEV_SET_UNMAP_NOTIFY:
		return 0;
	case IOCTL_EVTCHN_NOTIFY:
		ring[0] = ((struct ioctl_evtchn_notify *)argument)->port;
		return write(fd, ring, sizeof(ring)) == sizeof(ring) ? 0 : -1;
	default:
		return next(fd, request, argument);
	}
}

// The daemon gives the engine's program an environment of its own.
int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attributes,
		char *const argv[], char *const envp[])
{
	int (*next)(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const[],
		    char *const[]) = dlsym(RTLD_NEXT, "posix_spawn");
	char preload[300];
	char *environment[16];
	size_t count = 0;

	while (envp[count] && count < 14) {
		environment[count] = envp[count];
		count++;
	}
	snprintf(preload, sizeof(preload), "LD_PRELOAD=%s", getenv("LD_PRELOAD"));
	environment[count++] = preload;
	environment[count] = NULL;
	return next(pid, path, actions, attributes, argv, environment);
}
