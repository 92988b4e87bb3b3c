package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"millrace/internal/build"
)

func versionCommand(sh *shell) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Say which build of millrace this is",
		Long: `Version prints the build of this program. Workers name theirs in the first line of their log, in the metric
millrace_build_info and in Temporal's workflow task events; the ledger names the build that published a revision.`,
		Example: "  millrace version\n  millrace version --json | jq -r .version",
		Args:    exactly(),
		RunE: func(*cobra.Command, []string) error {
			v := versionView{Version: build.Version(), Go: build.Go()}
			return sh.printOr(v, func() error {
				_, err := fmt.Fprintf(sh.out, "millrace %s, %s\n", v.Version, v.Go)
				return err
			})
		},
	}
}

type versionView struct {
	Version string `json:"version"`
	Go      string `json:"go"`
}
