package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// files looks at the secrets in files, and at the disk of a data directory.
func (c *doctorCommand) files() []finding {
	secrets := map[string]string{}
	var order []string
	add := func(path, what string) {
		if path != "" {
			secrets[path] = what
			order = append(order, path)
		}
	}
	add(c.Creds, "the credential")
	add(c.BusTLS.Key, "the key of this process's certificate")
	add(c.DeploymentKeyFile, "the deployment key")
	var list []finding
	if c.Bus == "" {
		dir, err := c.dir()
		if err != nil {
			return nil // said when the bus is opened
		}
		add(filepath.Join(dir, fileOperatorKey), "the operator's key")
		add(filepath.Join(dir, "consumer.nk"), "the readers' key")
		add(filepath.Join(dir, fileDeploymentKey), "the deployment key")
		add(filepath.Join(dir, fileNotaryKey), "the notary's key")
		add(dir, "the data directory, with the password verifiers,")
		if free, total, ok := diskSpace(dir); ok {
			list = append(list, diskFinding(dir, free, total))
		}
	}
	checked := 0
	for _, path := range order {
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, os.ErrNotExist) && c.Bus == "" && path != c.DeploymentKeyFile:
			continue // made when it is first needed
		case err != nil:
			list = append(list, finding{wrong, "secrets", fmt.Sprintf("%s cannot be looked at: %v", secrets[path], err),
				"without it the service does not start", "correct the path, or the rights of the directory it is in"})
			continue
		}
		checked++
		if f, bad := modeFinding(path, secrets[path], info.Mode()); bad {
			list = append(list, f)
			checked--
		}
	}
	if checked == len(order) || checked > 0 && len(list) == 0 {
		list = append(list, finding{Severity: fine, Check: "secrets", What: "nobody else on this machine can read the keys"})
	}
	return list
}

// modeFinding is about what others on this machine may do with a secret.
func modeFinding(path, what string, mode os.FileMode) (finding, bool) {
	const why = "whoever has it can act as the service does, or try passwords at leisure"
	do := "chmod go-rwx " + path
	switch perm := mode.Perm(); {
	case perm&0o007 != 0:
		return finding{wrong, "secrets", fmt.Sprintf("%s is open to everybody on this machine: %s has mode %s", what, path, perm), why, do}, true
	case perm&0o070 != 0:
		return finding{warning, "secrets", fmt.Sprintf("%s is open to its group: %s has mode %s", what, path, perm), why, do}, true
	}
	return finding{}, false
}

// Below these parts of a disk free, a person should know, and the service is about to stop.
const (
	diskTight = 0.10
	diskFull  = 0.02
)

func diskFinding(dir string, free, total uint64) finding {
	left := float64(free) / float64(max(total, 1))
	what := fmt.Sprintf("%s of %s are free on the disk of %s", size(free), size(total), dir)
	const why, do = "when it is full no page is stored: no login succeeds", "make room, or move the data directory to a larger disk"
	switch {
	case left < diskFull:
		return finding{wrong, "space", what, why, do}
	case left < diskTight:
		return finding{warning, "space", what, why, do}
	}
	return finding{Severity: fine, Check: "space", What: what}
}

// size is a number of bytes in its largest fitting unit.
func size(n uint64) string {
	for i, unit := range []string{"TiB", "GiB", "MiB", "KiB"} {
		if one := uint64(1) << (40 - 10*i); n >= one {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(one), unit)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
