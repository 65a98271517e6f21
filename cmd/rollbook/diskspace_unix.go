//go:build linux || darwin || freebsd

package main

import "syscall"

// diskSpace is what is left for this user on the disk that a directory is on.
func diskSpace(dir string) (free, total uint64, ok bool) {
	var fs syscall.Statfs_t
	if syscall.Statfs(dir, &fs) != nil {
		return 0, 0, false
	}
	block := uint64(fs.Bsize)
	return uint64(fs.Bavail) * block, uint64(fs.Blocks) * block, true
}
