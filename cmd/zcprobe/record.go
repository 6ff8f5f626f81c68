package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/probe"
)

type recordOptions struct {
	source
	to            []string
	dir           string // of the record
	withAddresses bool
	dryRun        bool
}

func newRecordCmd(a *app) *cobra.Command {
	o := &recordOptions{}
	cmd := &cobra.Command{
		Use:   "record DIR",
		Short: "Save this host, to be judged elsewhere or attached to a report",
		Long: `Saves everything that was read from this host in a directory. Other commands
judge it with --from-record DIR and give the same answers.

A record holds no command lines and no environment. Addresses, host names and
directories are replaced by pseudonyms that are the same in every record of this
host, unless --with-addresses is given.`,
		Example: `  zcprobe record /tmp/host --to 10.0.0.5:9000
  zcprobe path 10.0.0.5:9000 --from-record /tmp/host`,
		Args: oneArgument("a directory"),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.dir = args[0]
			return runRecord(cmd.Context(), a, o)
		},
	}
	fs := cmd.Flags()
	fs.StringArrayVar(&o.to, "to", nil, "include the path to `HOST[:PORT]`; can be repeated")
	fs.StringVar(&o.From, "from", "", "source `ADDR` of those paths")
	fs.BoolVar(&o.withAddresses, "with-addresses", false, "keep addresses, host names and directories")
	fs.BoolVar(&o.dryRun, "dry-run", false, "only list what would be written")
	o.liveFlags(fs)
	return cmd
}

// recordedJSON is zcprobe/recorded/v1.
type recordedJSON struct {
	Schema        string   `json:"schema"`
	Dir           string   `json:"dir"`
	Files         []string `json:"files"`
	WithAddresses bool     `json:"with_addresses"`
	DryRun        bool     `json:"dry_run"` // nothing was read or written
}

func runRecord(ctx context.Context, a *app, o *recordOptions) error {
	for _, to := range o.to {
		o.Also = append(o.Also, probe.Destination{To: to, From: o.From})
	}
	if err := o.check(); err != nil {
		return err
	}
	out := recordedJSON{Schema: "zcprobe/recorded/v1", Dir: o.dir, Files: probe.RecordFiles(), WithAddresses: o.withAddresses, DryRun: o.dryRun}
	if !o.dryRun {
		s := o.source
		s.From = "" // is in the destinations
		v, err := a.look(ctx, s)
		if err != nil {
			return err
		}
		for _, p := range v.facts.Paths {
			if p.Error != "" {
				return as(kindDestination, fmt.Errorf("%s: %s", p.Asked, p.Error))
			}
		}
		if err := a.save(o.dir, v.facts, probe.RecordOptions{WithAddresses: o.withAddresses}); err != nil {
			return as(kindRecord, err)
		}
	}
	return a.emit(out, func(p *text.Printer) { o.print(p, out.Files) })
}

func (o *recordOptions) print(p *text.Printer, files []string) {
	if o.dryRun {
		p.Para(0, 2, text.S("Would write these files, and make the directory if it is not there:"))
		for _, f := range files {
			p.Line(2, text.S(filepath.Join(o.dir, f)))
		}
		return
	}
	addresses := "Addresses, host names and directories are pseudonyms."
	if o.withAddresses {
		addresses = "It holds real addresses, host names and directories."
	}
	p.Para(0, 2, text.S(fmt.Sprintf("Recorded this host in %s (%d files). %s", o.dir, len(files), addresses)))
}
