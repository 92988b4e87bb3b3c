package connect

import (
	"cmp"

	"millrace/pipeline/store"
)

// RedisConfig says how to reach Redis.
func (o *Options) RedisConfig() (store.Config, error) {
	r := &o.Redis
	if len(r.Addrs) == 0 {
		return store.Config{}, Redis.missing()
	}
	if err := Redis.check(r.Addrs); err != nil {
		return store.Config{}, err
	}
	secure, err := r.TLS.secure(Redis)
	if err != nil {
		return store.Config{}, err
	}
	cfg := store.DefaultConfig()
	cfg.Addrs, cfg.Mode, cfg.TLS, cfg.DB = r.Addrs, store.Mode(r.Mode), secure, r.DB
	cfg.Username, cfg.Password = r.User, secret(r.Password, r.PasswordFile)
	cfg.MasterName, cfg.SentinelUsername = r.Sentinel.Master, r.Sentinel.User
	cfg.SentinelPassword = secret(r.Sentinel.Password, r.Sentinel.PasswordFile)
	cfg.PoolSize = cmp.Or(r.PoolSize, cfg.PoolSize)
	cfg.DialTimeout, cfg.ReadTimeout = cmp.Or(r.DialTimeout, cfg.DialTimeout), cmp.Or(r.ReadTimeout, cfg.ReadTimeout)
	cfg.WriteTimeout, cfg.PoolTimeout = cmp.Or(r.WriteTimeout, cfg.WriteTimeout), cmp.Or(r.PoolTimeout, cfg.PoolTimeout)
	return cfg, cfg.Validate()
}
