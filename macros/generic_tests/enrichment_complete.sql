{% test enrichment_complete(model, min_done=1.0) %}
  {#- Where rows are only submitted, those whose answers are due may still be done. -#}
  {%- set judges_due = dbt_enrich._mode(model) in ['run', 'collect'] -%}
  with counted as (
    select
      count(*) as staged_rows,
      count(case when enrichment_status = 'done' then 1 end) as done_rows,
      count(case when enrichment_status in ('pending', 'stale') then 1 end) as due_rows
    from {{ model }}
  )
  select
    staged_rows,
    done_rows,
    due_rows,
    {# Some databases divide whole numbers to whole ones. -#}
    1e0 * done_rows / staged_rows as share_done
  from counted
  where staged_rows > 0
    and 1e0 * (done_rows{% if not judges_due %} + due_rows{% endif %}) / staged_rows < {{ min_done }}
{% endtest %}
