package dev

import (
	"fmt"
	"path"
	"strings"

	"github.com/alicebob/miniredis/v2/server"
)

// redisVersion is what the embedded Redis says it is.
const redisVersion = "7.0.0"

// redisSettings is what CONFIG GET knows, in the order it answers. It never evicts: it has no memory limit at all.
var redisSettings = []struct{ name, value string }{
	{"maxmemory", "0"},
	{"maxmemory-policy", "noeviction"},
	{"appendonly", "no"},
	{"databases", "16"},
}

// addCommands adds what miniredis lacks and clients ask for at start-up.
func addCommands(s *server.Server) error {
	if err := s.Register("CONFIG", config); err != nil {
		return err
	}
	s.SetPreHook(info)
	return nil
}

// config answers CONFIG GET.
func config(c *server.Peer, _ string, args []string) {
	if len(args) < 2 || !strings.EqualFold(args[0], "GET") {
		c.WriteError("ERR the embedded Redis knows CONFIG GET only")
		return
	}
	var found []string
	for _, s := range redisSettings {
		for _, pattern := range args[1:] {
			if ok, err := path.Match(strings.ToLower(pattern), s.name); err == nil && ok {
				found = append(found, s.name, s.value)
				break
			}
		}
	}
	c.WriteMapLen(len(found) / 2)
	for _, s := range found {
		c.WriteBulk(s)
	}
}

// infoSections are the sections of INFO that clients ask for and miniredis refuses.
var infoSections = map[string]string{
	"server":      "# Server\r\nredis_version:" + redisVersion + "\r\nredis_mode:standalone\r\n",
	"memory":      "# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n",
	"persistence": "# Persistence\r\nloading:0\r\naof_enabled:0\r\n",
	"replication": "# Replication\r\nrole:master\r\nconnected_slaves:0\r\n",
	"cluster":     "# Cluster\r\ncluster_enabled:0\r\n",
}

// info answers INFO for the sections above and leaves every other command to miniredis.
func info(c *server.Peer, cmd string, args ...string) bool {
	if cmd != "INFO" {
		return false
	}
	if len(args) == 0 {
		args = []string{"server", "memory", "persistence", "replication", "cluster"}
	}
	var b strings.Builder
	for _, name := range args {
		section, ok := infoSections[strings.ToLower(name)]
		if !ok {
			return false
		}
		fmt.Fprintf(&b, "%s\r\n", section)
	}
	c.WriteBulk(b.String())
	return true
}
