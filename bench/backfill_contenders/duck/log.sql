create table heads as
select id, object, device_no, boot_count, seq, received, message_id, device_time as latest,
    hash(device_time, lat_deg, lon_deg, ignition_on, engine_running, speed_kmh, odometer_m,
         fuel_level_pct, ev_soc_pct, ev_charging, aux_battery_v, backup_battery_v, engine_rpm,
         coolant_temp_c, cabin_temp_c, heading_deg, door_state_bits, door_open, locked,
         headlamp_on, tire_pressure_kpa, dtc_codes, cell_rssi_dbm) as content
from read_uploads;
--rules
create macro volts(v) as if(v > 40 and not near(v, 255) and not near(v, 65535), v / 1000, v);

create table cleaned as
with guessed as (
    select * replace (volts(aux_battery_v) as aux_battery_v, volts(backup_battery_v)
                      as backup_battery_v),
        volts(aux_battery_v) is distinct from aux_battery_v
            or volts(backup_battery_v) is distinct from backup_battery_v as is_guessed,
        coalesce(abs(lat_deg) < 1e-6 and abs(lon_deg) < 1e-6, false) as is_zero
    from read_uploads semi join winners using (id)
)
select * replace (
        if(bad(lat_deg, -90, 90) or bad(lon_deg, -180, 180) or lon_deg is null or is_zero, null,
           lat_deg) as lat_deg,
        if(bad(lat_deg, -90, 90) or bad(lon_deg, -180, 180) or lat_deg is null or is_zero, null,
           lon_deg) as lon_deg,
        if(bad(speed_kmh, 0, 300) or near(speed_kmh, 255), null, speed_kmh) as speed_kmh,
        if(bad(odometer_m, 0, 4000000000), null, odometer_m) as odometer_m,
        if(bad(fuel_level_pct, 0, 100), null, fuel_level_pct) as fuel_level_pct,
        if(bad(ev_soc_pct, 0, 100), null, ev_soc_pct) as ev_soc_pct,
        if(bad(aux_battery_v, 0, 40), null, aux_battery_v) as aux_battery_v,
        if(bad(backup_battery_v, 0, 40), null, backup_battery_v) as backup_battery_v,
        if(bad(engine_rpm, 0, 16383), null, engine_rpm) as engine_rpm,
        if(bad(coolant_temp_c, -40, 214), null, coolant_temp_c) as coolant_temp_c,
        if(bad(cabin_temp_c, -60, 100), null, cabin_temp_c) as cabin_temp_c,
        if(bad(heading_deg, 0, 360), null, heading_deg) as heading_deg,
        if(bad(door_state_bits, 0, 63), null, door_state_bits) as door_state_bits,
        if(bad(cell_rssi_dbm, -150, 0), null, cell_rssi_dbm) as cell_rssi_dbm),
    near(speed_kmh, 255) or near(speed_kmh, 410.383) or near(speed_kmh, 65535)
        or coalesce(odometer_m = 4294967295, false) or near(fuel_level_pct, 255)
        or near(ev_soc_pct, 255) or near(aux_battery_v, 255) or near(aux_battery_v, 65535)
        or near(backup_battery_v, 255) or near(backup_battery_v, 65535)
        or near(engine_rpm, 16383.75) or near(engine_rpm, 65535) or near(coolant_temp_c, 215)
        or near(coolant_temp_c, 255) or near(cabin_temp_c, 215) or near(cabin_temp_c, 255)
        or near(heading_deg, 65535) or near(door_state_bits, 255) or near(cell_rssi_dbm, 99)
        or near(cell_rssi_dbm, 255) as is_sentinel,
    bad(lat_deg, -90, 90) or bad(lon_deg, -180, 180)
        or (bad(speed_kmh, 0, 300) and not near(speed_kmh, 410.383) and not near(speed_kmh, 65535))
        or (bad(odometer_m, 0, 4000000000) and odometer_m <> 4294967295)
        or (bad(fuel_level_pct, 0, 100) and not near(fuel_level_pct, 255))
        or (bad(ev_soc_pct, 0, 100) and not near(ev_soc_pct, 255))
        or (bad(aux_battery_v, 0, 40) and not near(aux_battery_v, 255)
            and not near(aux_battery_v, 65535))
        or (bad(backup_battery_v, 0, 40) and not near(backup_battery_v, 255)
            and not near(backup_battery_v, 65535))
        or (bad(engine_rpm, 0, 16383) and not near(engine_rpm, 16383.75)
            and not near(engine_rpm, 65535))
        or (bad(coolant_temp_c, -40, 214) and not near(coolant_temp_c, 215)
            and not near(coolant_temp_c, 255))
        or (bad(cabin_temp_c, -60, 100) and not near(cabin_temp_c, 215)
            and not near(cabin_temp_c, 255))
        or (bad(heading_deg, 0, 360) and not near(heading_deg, 65535))
        or (bad(door_state_bits, 0, 63) and not near(door_state_bits, 255))
        or (bad(cell_rssi_dbm, -150, 0) and not near(cell_rssi_dbm, 99)
            and not near(cell_rssi_dbm, 255)) as is_outside
from guessed;

drop table read_uploads;

create table bound as
select c.*, t.time_source, t.flags, t.event, if(b.n = 1, b.vehicle_id, null) as vehicle_id,
    case when coalesce(b.n, 0) = 0 then 'UNBOUND' when b.n = 1 then 'BOUND' else 'AMBIGUOUS' end
        as binding_status,
    if(b.n = 1, b.binding_version, null) as binding_version
from (
    select id, h.device_no, time_source, flags,
           if(shift is null, h.received, h.latest - shift) as event
    from heads h join timed using (id)
) t
asof left join spells b on b.device_no = t.device_no and b.since <= t.event
join cleaned c on c.id = t.id;

drop table cleaned;

create table judged as
with resets as (
    select id, odometer_m < lag(odometer_m) over (partition by device_no, vehicle_id
                                                  order by event, message_id) as is_reset
    from bound where odometer_m is not null
),
edges as (
    select id, device_no, event, message_id, ignition_on,
        ignition_on is distinct from lag(ignition_on) over w as starts
    from bound where ignition_on is not null
    window w as (partition by device_no order by event, message_id)
),
numbered as (
    select *, sum(starts::integer) over (partition by device_no order by event, message_id
              rows between unbounded preceding and current row) as run
    from edges
),
runs as (
    select device_no, run, event as since, lag(ignition_on) over w as before,
           lead(event) over w as next_since
    from numbered where starts window w as (partition by device_no order by run)
),
chatter as (
    select n.id, r.before from numbered n join runs r using (device_no, run)
    where r.before is not null and r.next_since - r.since < 30000
)
select b.id, coalesce(r.is_reset, false) as is_reset, c.id is not null as is_chatter,
       if(c.id is null, b.ignition_on, c.before) as ignition
from (select id, ignition_on from bound) b
left join resets r using (id) left join chatter c on c.id = b.id;

create table telemetry as
select b.* exclude (flags, is_guessed, is_zero, is_sentinel, is_outside),
    0 as sample_idx, null::map(varchar, varchar) as extras, j.ignition, j.is_reset,
    case when is_guessed or is_zero or is_sentinel or is_outside or is_reset or is_chatter
         then flags || list_filter([
            if(is_sentinel, 'SENTINEL', null), if(is_guessed, 'UNIT_GUESSED', null),
            if(is_outside, 'OUT_OF_RANGE', null), if(is_zero, 'GPS_ZERO', null),
            if(is_reset, 'ODO_RESET', null), if(is_chatter, 'IGNITION_CHATTER', null)
         ], lambda f: f is not null) else flags end as quality_flags
from bound b join judged j using (id);

drop table bound;
drop table judged;

create table minutes as
select vehicle_id, make_timestamptz(event // 60000 * 60000000) as minute, 0 as revision,
    list_distinct(list(device_no)) as device_nos,
    count(distinct message_id) as n_uploads, count(*) as n_samples,
    count(*) filter (len(quality_flags) > 0) as n_flagged,
    min(speed_kmh) as speed_min_kmh, max(speed_kmh) as speed_max_kmh,
    coalesce(sum(speed_kmh::double), 0) as speed_sum_kmh, count(speed_kmh) as speed_n,
    coalesce(sum(speed_kmh::double * speed_kmh::double), 0) as speed_sumsq,
    0::double as distance_gps_m,
    arg_min(odometer_m, (event, message_id)) as odo_first_m,
    arg_max(odometer_m, (event, message_id)) as odo_last_m,
    count(*) filter (is_reset) as odo_resets, 0 as driving_s, 0 as overspeed_s,
    60 * count(*) filter (ignition and speed_kmh < 1) as idle_s,
    60 * count(*) filter (ignition) as ignition_on_s,
    min(aux_battery_v) as aux_battery_min_v,
    arg_max(aux_battery_v, (event, message_id)) as aux_battery_last_v,
    arg_max(fuel_level_pct, (event, message_id)) as fuel_last_pct,
    arg_max(ev_soc_pct, (event, message_id)) as soc_last_pct,
    make_timestamptz(min(event) * 1000) as first_time,
    make_timestamptz(max(event) * 1000) as last_time,
    arg_min(lat_deg, (event, message_id)) as first_lat_deg,
    arg_min(lon_deg, (event, message_id)) as first_lon_deg,
    arg_max(lat_deg, (event, message_id)) as last_lat_deg,
    arg_max(lon_deg, (event, message_id)) as last_lon_deg
from telemetry where vehicle_id is not null
group by vehicle_id, event // 60000;
