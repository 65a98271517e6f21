package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// outfile is how a command writes a file that its user has named: never over one that is there, unless that is meant.
type outfile struct {
	Force bool `help:"Replace a file that is there already."`
}

// mayWrite refuses a path that is not to be written, before any work is done for it.
func (o outfile) mayWrite(path string) error {
	if err := replaceable(path); err != nil {
		return err
	}
	if _, err := os.Lstat(path); err == nil && !o.Force {
		return taken(path)
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
		return refuse("output", "there is no directory %s to write into", filepath.Dir(path))
	}
	return nil
}

func taken(path string) error {
	return refuse("exists", "%s is there already: take another name, or replace it with --force", path)
}

// fill puts what write writes into path, mode 0600. A crash leaves a file whose name begins with a dot, and beside it what
// was there before or the whole new one; an error leaves nothing new.
func (o outfile) fill(path string, write func(io.Writer) error) error {
	if err := o.mayWrite(path); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	err = write(f)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = o.rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	return syncDir(filepath.Dir(path))
}

// rename gives a finished file its name. Without --force that is a link and not a rename, which would take the place of a file
// that came meanwhile; where there are no links, such as on a memory stick, it is looked for once more.
func (o outfile) rename(from, path string) error {
	if !o.Force {
		err := os.Link(from, path)
		if errors.Is(err, os.ErrExist) {
			return taken(path)
		}
		if err == nil {
			return os.Remove(from)
		}
		if err := o.mayWrite(path); err != nil {
			return err
		}
	}
	return os.Rename(from, path)
}

// syncDir has the names in a directory outlast a loss of power.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}

// replaceable refuses a path where something else than a file is, such as a device, a pipe or a directory: a rename would
// put a file in its place.
func replaceable(path string) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return refuse("output", "%s is no file that could be written anew", path)
	}
	return nil
}

// writeWhole puts data into a file that is this program's own, over what was there, mode 0600. A crash leaves the file as it
// was, or the new one.
func writeWhole(path string, data []byte) error {
	return outfile{Force: true}.fill(path, func(to io.Writer) error {
		_, err := to.Write(data)
		return err
	})
}
