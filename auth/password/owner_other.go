//go:build !unix

package password

import (
	"io/fs"
	"os"
)

// openToOthers is false where the mode does not tell.
func openToOthers(fs.FileInfo) bool { return false }

func keepOwner(*os.File, fs.FileInfo) error { return nil }
