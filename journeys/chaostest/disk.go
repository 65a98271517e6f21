package chaostest

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// diskSize is that of a server's own disk, where this machine lets us mount one.
const diskSize = "1g"

// mount gives the server a disk of its own, so that it can be filled. Without the right to mount it goes on without.
func (v *server) mount(dir string) {
	if os.MkdirAll(dir, 0o700) == nil && syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+diskSize+",mode=0700") == nil {
		v.disk = dir
	}
}

func (v *server) unmount() {
	if v.disk != "" {
		_ = syscall.Unmount(v.disk, syscall.MNT_DETACH)
	}
}

func (v *server) ballast() string { return filepath.Join(v.disk, "ballast") }

// fill leaves no byte on the server's disk.
func (v *server) fill() error {
	f, err := os.Create(v.ballast())
	if err != nil {
		return err
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2 // what is left is smaller
		}
	}
	var left syscall.Statfs_t
	if err := syscall.Statfs(v.disk, &left); err != nil {
		return err
	}
	if left.Bavail > 1 {
		return fmt.Errorf("the disk of %s has %d blocks left", v.name, left.Bavail)
	}
	return nil
}

func (v *server) clear() error { return os.Remove(v.ballast()) }
