create macro metres(lat1, lon1, lat2, lon2) as
    2 * 6371008.8 * asin(least(1.0, sqrt(
        power(sin(radians(lat2 - lat1) / 2), 2)
        + cos(radians(lat1)) * cos(radians(lat2)) * power(sin(radians(lon2 - lon1) / 2), 2))));
create macro too_fast(t1, lat1, lon1, t2, lat2, lon2) as
    metres(lat1, lon1, lat2, lon2) > 70 * greatest((t2 - t1) / 1000.0, 1.0);
create macro near(v, known) as coalesce(abs(v - known) <= 0.005, false);
create macro bad(v, lo, hi) as coalesce(v not between lo and hi, false);

create table spells as
with rows as (
    select device_no, vehicle_id, epoch_ms(valid_from) as since,
           coalesce(epoch_ms(valid_to), 9223372036854775807) as until, binding_version
    from read_csv(getvariable('archive') || '/device_binding.csv', header = true, columns = {
        device_no: 'VARCHAR', vehicle_id: 'VARCHAR', valid_from: 'TIMESTAMP', valid_to: 'TIMESTAMP',
        binding_version: 'BIGINT'})
    qualify row_number() over (partition by device_no, valid_from order by binding_version desc) = 1
),
edges as (
    select device_no, since as edge from rows union select device_no, until from rows
)
select e.device_no, e.edge as since, count(distinct r.vehicle_id) as n,
       min(r.vehicle_id) as vehicle_id, arg_max(r.binding_version, r.since) as binding_version
from edges e left join rows r
  on r.device_no = e.device_no and r.since <= e.edge and e.edge < r.until
group by all;

create table winners as
select arg_min(id, (received, id)) as id, min(content) <> max(content) as dup_diff
from heads group by message_id;

create table clocks as
with own as (
    select h.id, h.device_no, h.received, h.latest, h.latest - h.received as d, w.dup_diff,
        row_number() over (partition by h.device_no
            order by h.received, h.boot_count nulls first, h.seq nulls first, h.message_id) as turn
    from heads h join winners w using (id)
),
judged as (
    select *,
        case when round(d / 1800000.0) between -28 and 28
                  and abs(d - round(d / 1800000.0) * 1800000) <= 90000
             then round(d / 1800000.0)::bigint * 1800000 else 0 end as zone,
        ((-d - 90 * 86400000::bigint + 7168 * 86400000::bigint - 1) // (7168 * 86400000::bigint))
            * 7168 * 86400000::bigint as roll,
        latest between -86400000 and 30 * 86400000::bigint
            or latest - 315964800000 between -86400000 and 30 * 86400000::bigint
            or latest - 946684800000 between -86400000 and 30 * 86400000::bigint as epoch
    from own
),
zoned as (
    select *, turn - row_number() over (partition by device_no, zone order by turn) as island
    from judged
),
sure as (
    select * exclude (island),
        zone <> 0 and count(*) over w >= 5
            and 2 * (max(received) over w - min(received) over w)
                >= max(latest) over w - min(latest) over w as is_zone
    from zoned window w as (partition by device_no, zone, island)
)
select *,
    case when epoch then 'epoch'
         when -d > 7078 * 86400000::bigint then if(d + roll <= 300000, 'roll', 'epoch')
         when is_zone then 'zone'
         when d > 86400000 then 'far'
         when d > 300000 then 'ahead'
         else 'good' end as state
from sure;

create table future_runs as
with recursive
ahead as (select device_no, turn, id, d from clocks where state = 'ahead'),
run as (
    select c.device_no, c.turn, c.id, c.d, c.d as lo, c.d as hi, c.turn as head
    from ahead c anti join ahead p on p.device_no = c.device_no and p.turn = c.turn - 1
    union all
    select c.device_no, c.turn, c.id, c.d,
        if(greatest(r.hi, c.d) - least(r.lo, c.d) < 5000, least(r.lo, c.d), c.d),
        if(greatest(r.hi, c.d) - least(r.lo, c.d) < 5000, greatest(r.hi, c.d), c.d),
        if(greatest(r.hi, c.d) - least(r.lo, c.d) < 5000, r.head, c.turn)
    from run r join ahead c on c.device_no = r.device_no and c.turn = r.turn + 1
)
select id, count(*) over w as length, quantile_disc(d, 0.5) over w as shift
from run window w as (partition by device_no, head);

create table timed as
select c.id, c.received,
    case when state = 'good' then 'DEVICE'
         when state in ('roll', 'zone') or (state = 'ahead' and r.length >= 3)
         then 'DEVICE_CORRECTED' else 'RECEIVED_FALLBACK' end as time_source,
    case state when 'good' then 0 when 'roll' then -roll when 'zone' then zone
         when 'ahead' then if(r.length >= 3, r.shift, null) end as shift,
    list_filter([
        if(dup_diff, 'DUP_DIFF', null),
        case state when 'epoch' then 'CLOCK_EPOCH' when 'roll' then 'GPS_ROLLOVER_CORRECTED'
             when 'zone' then 'TZ_CORRECTED' when 'far' then 'CLOCK_FUTURE'
             when 'ahead' then 'CLOCK_FUTURE' end,
        if(zone <> 0 and state in ('far', 'ahead', 'good'), 'TZ_SUSPECT', null)
    ], lambda f: f is not null) as flags
from clocks c left join future_runs r using (id);
