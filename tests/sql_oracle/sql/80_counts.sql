-- The ledger, and what was flagged. Samples twice in one upload are dropped before rule 5, so
-- those of uploads sent again count too.
create table samples_per_terminal as
select device_no, count(*) as n_samples from telemetry group by all;

create table flag_counts as
select flag, count(*) filter (list_contains(quality_flags, flag)) as n_rows
from telemetry cross join unnest(['GPS_ZERO', 'GPS_JUMP', 'GPS_STALE', 'SENTINEL', 'OUT_OF_RANGE',
                                  'CLOCK_FUTURE', 'DUP_DIFF']) as f(flag)
group by all;

create table ledger as
with kept as (select message_id, count(*) as n from samples group by all)
select u.part, u.arrival_hour, count(*) as "in",
    count(*) filter (u.counts) as good,
    0 as dead, count(*) filter (not u.counts) as duplicate, 0 as late, 0 as filtered,
    coalesce(sum(k.n) filter (u.counts), 0)::bigint as samples,
    sum(len(u.data) - len(list_distinct(u.data)))::bigint as duplicate_samples
from uploads u join kept k using (message_id)
group by all;
