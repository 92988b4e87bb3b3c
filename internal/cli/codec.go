package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"millrace/internal/codec"
	"millrace/pipeline/credential"
)

func codecCommand(sh *shell) *cobra.Command {
	job := codecJob{}
	cmd := &cobra.Command{
		Use:   "codec",
		Short: "Let Temporal's own tools read encrypted payloads",
	}
	serve := &cobra.Command{
		Use:   "serve",
		Short: "Decrypt and encrypt payloads for Temporal's command line and UI",
		Long: `Serve answers POST /decode and POST /encode with the keys of temporal.codec.keys or temporal.codec.key_dir, until Ctrl-C.
Whoever reaches it and has the token reads what the keys encrypt: it listens on loopback unless told otherwise, and wants a
token in every request, as Authorization: Bearer TOKEN. Pages of a UI may ask only when their origin is named.`,
		Example: `  millrace codec serve --token-file /run/secrets/codec-token --origin http://localhost:8233
  temporal workflow show -w pipeline:flights --codec-endpoint http://127.0.0.1:8081 --codec-auth "Bearer $(cat /run/secrets/codec-token)"`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error { return serveCodec(cmd.Context(), sh, job) },
	}
	serve.Flags().StringVar(&job.listen, "listen", "127.0.0.1:8081", "host:port to listen on")
	serve.Flags().StringVar(&job.tokenFile, "token-file", "", "file of the token that every request has to send")
	serve.Flags().StringSliceVar(&job.origins, "origin", nil, "origin of a UI whose pages may ask, such as http://localhost:8233; may be repeated")
	cmd.AddCommand(serve)
	return cmd
}

type codecJob struct {
	listen, tokenFile string
	origins           []string
}

// codecTimeout bounds a request, and the end of those that are under way at Ctrl-C.
const codecTimeout = 10 * time.Second

// serveCodec answers until ctx ends.
func serveCodec(ctx context.Context, sh *shell, job codecJob) error {
	if job.tokenFile == "" {
		return usagef("--token-file is missing: without a token everybody on this machine could decrypt; " +
			"make one with `openssl rand -hex 32 > FILE`")
	}
	token := credential.InFile(job.tokenFile)
	if _, err := token.Get(); err != nil {
		return usagef("--token-file: %w", err)
	}
	keys, err := sh.conn.CodecKeys()
	if err != nil {
		return configured(err)
	}
	if keys.Empty() {
		return usagef("there are no keys: set temporal.codec.keys (MILLRACE_CODEC_KEYS) or temporal.codec.key_dir (MILLRACE_CODEC_KEY_DIR)")
	}
	listener, err := net.Listen("tcp", job.listen)
	if err != nil {
		return usagef("--listen: %w", err)
	}
	server := &http.Server{
		Handler:     &codec.Endpoint{Keys: keys, Origins: job.origins, Token: token},
		ReadTimeout: codecTimeout, WriteTimeout: codecTimeout, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10,
	}
	if !listener.Addr().(*net.TCPAddr).IP.IsLoopback() {
		fmt.Fprintf(sh.err, "warning: --listen %s is open to the network, where the token and what is decrypted go in clear text; "+
			"listen on 127.0.0.1 behind something that speaks TLS\n", job.listen)
	}
	fmt.Fprintf(sh.err, "decrypting at http://%s/decode; Ctrl-C ends it\n", listener.Addr())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), codecTimeout)
	defer cancel()
	if err := server.Shutdown(limited); err != nil {
		return err
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
