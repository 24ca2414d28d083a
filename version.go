package sealmq

import (
	"runtime/debug"
	"strings"
)

// Version is the version of this module in the program that runs: a release, the commit that was built, or "devel".
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	if info.Main.Path != modulePath {
		for _, d := range info.Deps {
			if d.Path == modulePath && d.Version != "" {
				return d.Version
			}
		}
		return "devel"
	}
	return buildVersion(info)
}

const modulePath = "github.com/sealmq/sealmq"

// buildVersion is the version of the main module.
func buildVersion(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	var commit, modified string
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = "+modified"
		}
	}
	if commit == "" {
		return "devel"
	}
	return "devel-" + strings.TrimSpace(commit[:min(12, len(commit))]) + modified
}
