//go:build !linux

package bench

import (
	"errors"
	"time"
)

var errNoProcess = errors.New("the broker's CPU and memory can be read on Linux only")

func processCPU(int) (time.Duration, error) { return 0, errNoProcess }
func processRSS(int) (int64, error)         { return 0, errNoProcess }
func processWritten(int) (int64, error)     { return 0, errNoProcess }
func diskFlushes(string) (int64, error)     { return 0, errNoProcess }
func ownCPU() time.Duration                 { return 0 }
func maxDescriptors() int                   { return 1 << 30 }
