-- Rule 4, lines 5 to 7 (a future clock or a good one). Lines 2 to 4 are refused: not in these archives.
create table clocks as
select message_id, device, received, latest - received as d,
    row_number() over (partition by device order by received, boot nulls first, seq nulls first,
                       message_id) as turn,
    case
        when latest - received > 86400000 then 'far'
        when epoch_ms(latest) between timestamp '1969-12-31' and timestamp '1970-01-31'
          or epoch_ms(latest) between timestamp '1980-01-05' and timestamp '1980-02-05'
          or epoch_ms(latest) between timestamp '1999-12-31' and timestamp '2000-01-31'
          or received - latest > 7078 * 86400000::bigint
          or (abs(latest - received) <= 28 * 1800000 + 90000
              and round((latest - received) / 1800000.0) <> 0
              and abs(latest - received - round((latest - received) / 1800000.0) * 1800000) <= 90000)
        then error('outside this oracle: the clock of upload ' || message_id)
        when latest - received > 300000 then 'future'
        else 'good'
    end as state
from (
    select message_id, device, received, boot, seq,
           list_max(list_transform(data, lambda s: s.ts)) as latest
    from uploads where counts
);

-- Runs of future clocks, cut greedily where the spread reaches 5 s.
create table future_runs as
with recursive run as (
    select c.device, c.turn, c.message_id, c.d, c.d as lo, c.d as hi, c.turn as head
    from clocks c left join clocks p on p.device = c.device and p.turn = c.turn - 1
    where c.state = 'future' and p.state is distinct from 'future'
    union all
    select c.device, c.turn, c.message_id, c.d,
        case when greatest(r.hi, c.d) - least(r.lo, c.d) < 5000 then least(r.lo, c.d) else c.d end,
        case when greatest(r.hi, c.d) - least(r.lo, c.d) < 5000 then greatest(r.hi, c.d) else c.d end,
        case when greatest(r.hi, c.d) - least(r.lo, c.d) < 5000 then r.head else c.turn end
    from run r join clocks c on c.device = r.device and c.turn = r.turn + 1 and c.state = 'future'
)
select message_id, count(*) over w as length, quantile_disc(d, 0.5) over w as shift
from run window w as (partition by device, head);

create table event_clocks as
select c.message_id, c.received,
    case when c.state = 'good' then 0 when coalesce(r.length, 0) >= 3 then r.shift end as shift,
    c.state <> 'good' as is_future,
    case when c.state = 'good' then 'DEVICE' when coalesce(r.length, 0) >= 3 then 'DEVICE_CORRECTED'
         else 'RECEIVED_FALLBACK' end as time_source
from clocks c left join future_runs r using (message_id);
