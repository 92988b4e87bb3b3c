package dev

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// temporalVersion is the version of the CLI that tools/go.mod builds and the oldest one that is used from PATH.
const temporalVersion = "1.5.1"

const temporalPackage = "github.com/temporalio/cli/cmd/temporal"

// buildLockTimeout bounds the wait for another process that builds the same binary.
const buildLockTimeout = 20 * time.Minute

// ErrNoTemporal means that no usable `temporal` binary was found and none could be built.
var ErrNoTemporal = errors.New("no temporal binary")

// FindTemporal returns the path of a `temporal` binary: explicit if given; else the one on PATH if it is recent enough; else
// the one beside our own executable or in bin/ of the source tree; else it is built once from the source tree's tools
// module, which takes minutes: notice is told so.
func FindTemporal(ctx context.Context, explicit string, notice func(line string)) (string, error) {
	if explicit != "" {
		if err := executable(explicit); err != nil {
			return "", fmt.Errorf("%w: %s: %w", ErrNoTemporal, explicit, err)
		}
		return explicit, nil
	}
	if path, err := exec.LookPath("temporal"); err == nil && recentEnough(ctx, path) {
		return path, nil
	}
	var places []string
	if self, err := os.Executable(); err == nil {
		places = append(places, filepath.Join(filepath.Dir(self), "temporal"))
	}
	root, inTree := sourceTree()
	if inTree {
		places = append(places, filepath.Join(root, "bin", "temporal"))
	}
	for _, place := range places {
		if executable(place) == nil {
			return place, nil
		}
	}
	if !inTree {
		return "", fmt.Errorf("%w: install the Temporal CLI %s or newer, or name one with its path (looked on PATH and at %v)",
			ErrNoTemporal, temporalVersion, places)
	}
	return buildTemporal(ctx, root, notice)
}

// buildTemporal builds bin/temporal of the source tree at root, unless another process has done so meanwhile.
func buildTemporal(ctx context.Context, root string, notice func(line string)) (string, error) {
	bin := filepath.Join(root, "bin")
	lock, err := lockFile(ctx, bin, buildLockTimeout)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoTemporal, err)
	}
	defer lock.Close()
	target := filepath.Join(bin, "temporal")
	if executable(target) == nil {
		return target, nil
	}
	notice("building Temporal's development server into bin/temporal; this takes a few minutes, once ...")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags",
		"-s -w -X github.com/temporalio/cli/temporalcli.Version="+temporalVersion, "-o", target+".part", temporalPackage)
	cmd.Dir = filepath.Join(root, "tools")
	out := &tailWriter{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%w: building it failed (try `make bin/temporal`): %w; it said: %s", ErrNoTemporal, err, out)
	}
	if err := os.Rename(target+".part", target); err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoTemporal, err)
	}
	return target, nil
}

// sourceTree is the directory of this module's go.mod, at or above the working directory or our own executable.
func sourceTree() (root string, ok bool) {
	var starts []string
	if dir, err := os.Getwd(); err == nil {
		starts = append(starts, dir)
	}
	if self, err := os.Executable(); err == nil {
		starts = append(starts, filepath.Dir(self))
	}
	for _, start := range starts {
		for dir := start; ; dir = filepath.Dir(dir) {
			text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
			if err == nil && bytes.HasPrefix(text, []byte("module millrace\n")) {
				return dir, true
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return "", false
}

func executable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return errors.New("not an executable file")
	}
	return nil
}

var versionText = regexp.MustCompile(`temporal version (\d+)\.(\d+)\.(\d+)`)

// recentEnough reports whether the CLI at path is at least temporalVersion.
func recentEnough(ctx context.Context, path string) bool {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	return err == nil && versionAtLeast(string(out), "temporal version "+temporalVersion)
}

// versionAtLeast compares two texts of the form "temporal version 1.5.1 ...".
func versionAtLeast(have, want string) bool {
	h, w := versionText.FindStringSubmatch(have), versionText.FindStringSubmatch(want)
	if h == nil || w == nil {
		return false
	}
	for i := 1; i <= 3; i++ {
		a, errA := strconv.Atoi(h[i])
		b, errB := strconv.Atoi(w[i])
		if errA != nil || errB != nil {
			return false
		}
		if a != b {
			return a > b
		}
	}
	return true
}
