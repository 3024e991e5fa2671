-- Rules 4 and 7: event time, then the vehicle the terminal sat in at that instant.
create table bindings as
with published as (
    select * from read_csv(getvariable('bindings'), header = true, all_varchar = true)
    union all by name select null::varchar as binding_version where false
),
ranked as (
    select upper(trim(device_no)) as device, vehicle_id, valid_from::timestamptz as lower_bound,
        nullif(valid_to, '')::timestamptz as upper_bound,
        row_number() over (partition by upper(trim(device_no)), valid_from::timestamptz
                           order by coalesce(binding_version::bigint, 0) desc) as place
    from published
)
select device, vehicle_id, epoch_ms(lower_bound) as since, epoch_ms(upper_bound) as until
from ranked where place = 1;

create table timed as
select s.*, c.time_source, c.is_future, u.object, u.line, u.dup_diff,
    case when c.shift is null then c.received else s.ts - c.shift end as event_ms,
    coalesce(w.verdict, '') as verdict
from cleaned_samples s
join event_clocks c using (message_id)
join (select * from uploads where counts) u using (message_id)
left join walk w using (message_id, sample_idx);

create table telemetry as
with candidates as (
    select t.message_id, t.sample_idx, count(distinct b.vehicle_id) as n, min(b.vehicle_id) as vehicle
    from timed t left join bindings b
      on b.device = t.device and t.event_ms >= b.since and (b.until is null or t.event_ms < b.until)
    group by all
)
select t.message_id, t.sample_idx, t.device as device_no,
    case when c.n = 1 then c.vehicle end as vehicle_id,
    case c.n when 0 then 'UNBOUND' when 1 then 'BOUND' else 'AMBIGUOUS' end as binding_status,
    t.event_ms, t.ts as device_ms, t.time_source, t.lat as lat_deg, t.lon as lon_deg,
    t.speed as speed_kmh, t.object, t.line,
    list_sort(list_filter([
        case when t.is_future then 'CLOCK_FUTURE' end,
        case when t.dup_diff then 'DUP_DIFF' end,
        case when t.is_zero then 'GPS_ZERO' end,
        case when t.is_stale then 'GPS_STALE' end,
        case when t.verdict = 'jump' then 'GPS_JUMP' end,
        case when t.is_sentinel then 'SENTINEL' end,
        case when t.is_outside then 'OUT_OF_RANGE' end], lambda f: f is not null)) as quality_flags
from timed t join candidates c using (message_id, sample_idx);
