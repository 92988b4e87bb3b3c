package connect

import (
	"errors"
	"fmt"
	"time"

	"millrace/internal/admin"
	"millrace/pipeline/credential"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// Check looks at everything that can be looked at without a server: what settings mean together, and the files that they name. Every
// problem is an error of its own.
func (o *Options) Check() error {
	var errs []error
	kafka, err := o.KafkaConfig()
	if errs = append(errs, err); err == nil {
		_, err = source.NewConfig(kafka)
		errs = append(errs, err, certificateTime(Kafka, kafka.TLS))
		if kafka.SASL.Tokens != nil {
			errs = append(errs, kafka.SASL.Tokens.Check())
		}
	}
	redis, err := o.RedisConfig()
	if errs = append(errs, err); err == nil {
		client, err := store.NewClient(redis) // connects when it is used
		if errs = append(errs, err, certificateTime(Redis, redis.TLS)); err == nil {
			errs = append(errs, client.Close())
		}
	}
	temporal, err := o.TemporalConfig()
	if errs = append(errs, err); err == nil {
		if own := ownOf(temporal.ConnectionOptions.TLS); own != nil {
			errs = append(errs, expired(Temporal, credential.CheckTime(own.Leaf, time.Now())))
		}
	}
	_, err = o.Worker.WAL.Config(o.Worker.Name)
	errs = append(errs, err)
	errs = append(errs, checkAdmin(o.Worker.Admin)...)
	return errors.Join(errs...)
}

// certificateTime says what is wrong with when the program's certificate is valid.
func certificateTime(of Server, t credential.TLS) error {
	secure, err := t.Client()
	if err != nil || secure.Own() == nil {
		return nil // a file that cannot be read has been reported
	}
	return expired(of, credential.CheckTime(secure.Own(), time.Now()))
}

func expired(of Server, wrong error) error {
	if wrong == nil {
		return nil
	}
	return fmt.Errorf("the certificate in %s cannot be used: %w", of.label("tls.cert"), wrong)
}

// checkAdmin looks at the files of the admin listener.
func checkAdmin(a admin.Config) (errs []error) {
	errs = append(errs, a.Validate())
	_, err := credential.TLS{Enable: true, CAFile: a.ClientCAFile, CertFile: a.CertFile, KeyFile: a.KeyFile}.Client()
	if err != nil {
		errs = append(errs, fmt.Errorf("admin tls: %w", err))
	}
	if a.TokenFile != "" {
		if _, err := credential.InFile(a.TokenFile).Get(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", labels.Label("admin.token_file"), err))
		}
	}
	return errs
}
