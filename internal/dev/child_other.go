//go:build !linux

package dev

import "syscall"

// childAttributes put a child into a group of its own. Only Linux can tie its life to ours.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
