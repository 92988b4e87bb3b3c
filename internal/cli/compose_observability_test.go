package cli

import (
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"millrace/deploy/observability/dashboards"
)

const (
	composeRoot     = "../.."
	observability   = "observability" // profile
	prometheusFile  = composeRoot + "/deploy/observability/prometheus/prometheus.yaml"
	datasourcesFile = composeRoot + "/deploy/observability/grafana/provisioning/datasources/millrace.yaml"
	providersFile   = composeRoot + "/deploy/observability/grafana/provisioning/dashboards/millrace.yaml"
)

// exact is a tag that names one build of an image, as far as tags do.
var exact = regexp.MustCompile(`:v?\d+\.\d+\.\d+$`)

// mounts are the files and directories of this repository that a service has, by where it finds them. Named volumes are none of them.
func (s *composeService) mounts() map[string]string {
	found := make(map[string]string)
	for _, volume := range s.Volumes {
		from, to, _ := strings.Cut(volume, ":")
		if strings.HasPrefix(from, "./") {
			to, _, _ = strings.Cut(to, ":")
			found[to] = filepath.Join(composeRoot, from)
		}
	}
	return found
}

// There is no Docker where this is tested: what is held is that the files fit each other.
func TestComposeObservability(t *testing.T) {
	services, _ := readCompose(t)
	profile := make(map[string]bool)
	for name, service := range services {
		if slices.Contains(service.Profiles, observability) {
			profile[name] = true
			require.Regexp(t, exact, service.Image, name)
			require.True(t, service.ReadOnly, "%s writes to volumes and to memory only", name)
		}
		for _, volume := range service.Volumes {
			if strings.HasPrefix(volume, "./") {
				require.Regexp(t, `:ro$`, volume, "%s changes no file of the repository", name)
			}
		}
		for _, at := range service.mounts() {
			require.DirExists(t, at, name)
		}
	}
	require.Len(t, profile, 4)
	require.Contains(t, services["worker"].Environment, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

	// inside is what a service's address leads to: the service is there, and is started with the others of the profile.
	inside := func(address string) string {
		host, _, err := net.SplitHostPort(address)
		require.NoError(t, err)
		require.True(t, profile[host], "%s is not of the profile", address)
		return host
	}

	var scrapes struct {
		Configs []struct {
			Job string `yaml:"job_name"`
			DNS []struct {
				Names []string
				Port  int
			} `yaml:"dns_sd_configs"`
			Static []struct{ Targets []string } `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	readYAML(t, prometheusFile, &scrapes)
	require.Len(t, scrapes.Configs, 2)
	require.Equal(t, []string{"worker"}, scrapes.Configs[0].DNS[0].Names)
	require.Contains(t, services["worker"].Environment["MILLRACE_METRICS_ADDR"], ":9464")
	require.Equal(t, 9464, scrapes.Configs[0].DNS[0].Port)
	inside(scrapes.Configs[1].Static[0].Targets[0])
	prometheus := services["prometheus"]
	config, found := strings.CutPrefix(prometheus.Command[0], "--config.file=/etc/prometheus/millrace/")
	require.True(t, found)
	require.FileExists(t, filepath.Join(prometheus.mounts()["/etc/prometheus/millrace"], config))

	var sources struct {
		Datasources []struct{ UID, URL string }
	}
	readYAML(t, datasourcesFile, &sources)
	for _, s := range sources.Datasources {
		at, err := url.Parse(s.URL)
		require.NoError(t, err)
		require.Equal(t, s.UID, inside(at.Host))
	}
	require.Equal(t, dashboards.Source, sources.Datasources[0].UID)

	var providers struct {
		Providers []struct{ Options struct{ Path string } }
	}
	readYAML(t, providersFile, &providers)
	grafana := services["grafana"]
	mounts := grafana.mounts()
	require.Contains(t, mounts, "/etc/grafana/provisioning")
	require.Contains(t, mounts, providers.Providers[0].Options.Path)
	home := grafana.Environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
	require.FileExists(t, filepath.Join(mounts[filepath.Dir(home)], filepath.Base(home)))
}

func readYAML(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(text, into))
}
